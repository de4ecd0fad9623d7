//! A curve as it is painted, kept from frame to frame: one step more costs one step, not all of them.

/// Most points of a curve that are handed to the painter.
const DRAWN: usize = 1200;

/// A point: a step and a value.
type Point = [f64; 2];

/// `points` in at most `most` points: of each stretch the lowest and the highest stay, so no spike is lost.
pub fn thin(points: &[Point], most: usize) -> Vec<Point> {
    if points.len() <= most.max(4) {
        return points.iter().copied().filter(|p| p[1].is_finite()).collect();
    }
    let mut kept = Stretches { size: points.len().div_ceil(most / 2), all: Vec::new() };
    for point in points {
        kept.join(*point);
    }
    kept.points()
}

/// The lowest and the highest point of a stretch of steps.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    count: usize,
    /// None where no value is a number.
    ends: Option<(Point, Point)>,
}

impl Stretch {
    fn of(point: Point) -> Self {
        Self { count: 1, ends: point[1].is_finite().then_some((point, point)) }
    }

    /// With the stretch behind it.
    fn with(self, next: Self) -> Self {
        let ends = match (self.ends, next.ends) {
            (Some((low, high)), Some((low2, high2))) => {
                Some((if low2[1] < low[1] { low2 } else { low }, if high2[1] > high[1] { high2 } else { high }))
            }
            (one, other) => one.or(other),
        };
        Self { count: self.count + next.count, ends }
    }
}

/// A curve in stretches of one size, which doubles when there are too many of them.
#[derive(Clone, Debug)]
struct Stretches {
    size: usize,
    all: Vec<Stretch>,
}

impl Default for Stretches {
    fn default() -> Self {
        Self { size: 1, all: Vec::new() }
    }
}

impl Stretches {
    fn push(&mut self, point: Point) {
        self.join(point);
        if self.all.len() > DRAWN / 2 {
            let pairs = self.all.chunks(2);
            self.all = pairs.map(|pair| pair[1..].iter().fold(pair[0], |one, next| one.with(*next))).collect();
            self.size *= 2;
        }
    }

    fn join(&mut self, point: Point) {
        match self.all.last_mut() {
            Some(last) if last.count < self.size => *last = last.with(Stretch::of(point)),
            _ => self.all.push(Stretch::of(point)),
        }
    }

    fn points(&self) -> Vec<Point> {
        let mut points = Vec::with_capacity(2 * self.all.len());
        for (low, high) in self.all.iter().filter_map(|stretch| stretch.ends) {
            let (first, second) = if low[0] <= high[0] { (low, high) } else { (high, low) };
            points.push(first);
            if first[0] < second[0] {
                points.push(second);
            }
        }
        points
    }
}

/// The average of `peft_plan::zones::smoothed`, value by value.
#[derive(Clone, Copy, Debug, Default)]
struct Average {
    sum: f64,
    total: f64,
}

impl Average {
    fn push(&mut self, value: f64, weight: f64) -> f64 {
        if value.is_finite() {
            self.sum = self.sum * weight + (1.0 - weight) * value;
            self.total = self.total * weight + (1.0 - weight);
        }
        if self.total > 0.0 { self.sum / self.total } else { f64::NAN }
    }
}

/// The points between two steps, with one more on either side.
fn within(points: &[Point], from: f64, to: f64) -> &[Point] {
    let begin = points.partition_point(|p| p[0] < from).saturating_sub(1);
    let end = (points.partition_point(|p| p[0] <= to) + 1).min(points.len());
    points.get(begin..end).unwrap_or(&[])
}

/// A curve, and what is known of it.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    smoothing: f64,
    /// The first and the last point that it knows.
    ends: Option<(Point, Point)>,
    span: Option<(f64, f64)>,
    average: Average,
    /// The whole curve, smoothed; empty where it is not to be.
    smooth: Vec<Point>,
    thin: Stretches,
    thin_smooth: Stretches,
    count: usize,
    /// The part that was looked at last.
    part: Option<Part>,
}

#[derive(Clone, Debug)]
struct Part {
    window: (f64, f64),
    count: usize,
    faint: Vec<Point>,
    smooth: Vec<Point>,
}

/// Whether two points are the same, also where they are not numbers.
fn is_same(a: Point, b: Point) -> bool {
    a.map(f64::to_bits) == b.map(f64::to_bits)
}

impl Kept {
    /// Take in what came to `points`. `smoothing` is 0 (none) to 0.99.
    pub fn follow(&mut self, points: &[Point], smoothing: f64) {
        let goes_on = smoothing.to_bits() == self.smoothing.to_bits()
            && match (self.ends, points.first()) {
                (None, _) => true,
                (Some((first, last)), Some(begin)) => {
                    is_same(first, *begin) && points.get(self.count - 1).is_some_and(|point| is_same(last, *point))
                }
                (Some(_), None) => false,
            };
        if !goes_on {
            *self = Self { smoothing, ..Self::default() };
        }
        for point in &points[self.count..] {
            self.push(*point);
        }
        if let (Some(first), Some(last)) = (points.first(), points.last()) {
            self.ends = Some((*first, *last));
        }
    }

    fn push(&mut self, point: Point) {
        self.count += 1;
        self.thin.push(point);
        if self.smoothing > 0.0 {
            let smooth = [point[0], self.average.push(point[1], self.smoothing.min(0.99))];
            self.smooth.push(smooth);
            self.thin_smooth.push(smooth);
        }
        if point[1].is_finite() {
            let (low, high) = self.span.unwrap_or((point[1], point[1]));
            self.span = Some((low.min(point[1]), high.max(point[1])));
        }
    }

    /// The lowest and the highest value.
    pub fn span(&self) -> Option<(f64, f64)> {
        self.span
    }

    /// What is painted of `points` between two steps: each step, and smoothed.
    pub fn painted(&mut self, points: &[Point], (from, to): (f64, f64)) -> (Vec<Point>, Vec<Point>) {
        let Some((first, last)) = self.ends else { return (Vec::new(), Vec::new()) };
        // Three points are no trend.
        let is_smooth = self.count > 2;
        if from <= first[0] && last[0] <= to {
            let smooth = if is_smooth { self.thin_smooth.points() } else { Vec::new() };
            return (self.thin.points(), smooth);
        }
        let seen = within(points, from, to);
        let known = self.part.as_ref().filter(|part| part.window == (from, to) && part.count == seen.len());
        let part = match known {
            Some(part) => part.clone(),
            None => Part {
                window: (from, to),
                count: seen.len(),
                faint: thin(seen, DRAWN),
                smooth: if is_smooth { thin(within(&self.smooth, from, to), DRAWN) } else { Vec::new() },
            },
        };
        let painted = (part.faint.clone(), part.smooth.clone());
        self.part = Some(part);
        painted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use peft_plan::zones::smoothed;

    fn line(count: usize) -> Vec<Point> {
        let mut line: Vec<Point> = (0..count).map(|i| [i as f64, 1.0]).collect();
        for (at, value) in [(54_321, 9.0), (77, -3.0), (500, f64::NAN)] {
            if let Some(point) = line.get_mut(at) {
                point[1] = value;
            }
        }
        line
    }

    #[test]
    fn thinning_keeps_spikes_and_order_whatever_the_size() {
        let line = line(100_000);
        let kept = thin(&line, 500);
        assert!(kept.len() <= 502 && kept.contains(&[54_321.0, 9.0]) && kept.contains(&[77.0, -3.0]));
        assert!(kept.windows(2).all(|w| w[0][0] < w[1][0]), "in order");
        for n in 0..40 {
            assert!(thin(&line[..n], 4).len() <= n);
        }
    }

    #[test]
    fn a_curve_that_grows_is_what_it_would_be_at_once_and_keeps_its_spikes() {
        let line = line(100_000);
        let mut grown = Kept::default();
        for end in [1, 2, 3, 700, 701, 5000, 60_000, 100_000] {
            grown.follow(&line[..end], 0.6);
            let mut whole = Kept::default();
            whole.follow(&line[..end], 0.6);
            let all = (0.0, 1e6);
            assert_eq!(grown.painted(&line[..end], all), whole.painted(&line[..end], all), "{end}");
        }
        let (faint, smooth) = grown.painted(&line, (0.0, 1e6));
        assert!(faint.len() <= DRAWN && faint.contains(&[54_321.0, 9.0]) && faint.contains(&[77.0, -3.0]));
        assert!(faint.windows(2).all(|w| w[0][0] < w[1][0]), "in order");
        assert_eq!(grown.span(), Some((-3.0, 9.0)));
        let values = smoothed(line.iter().map(|p| p[1]), 0.6);
        assert!(smooth.iter().all(|p| p[1].to_bits() == values[p[0] as usize].to_bits()), "the average of the library");
        assert!(grown.painted(&line, (54_000.0, 54_500.0)).0.contains(&[54_321.0, 9.0]), "a part");
    }

    #[test]
    fn a_curve_that_went_back_or_is_another_begins_anew() {
        let mut kept = Kept::default();
        kept.follow(&[[1.0, 5.0], [2.0, 6.0], [3.0, 7.0]], 0.0);
        kept.follow(&[[1.0, 5.0], [2.0, 6.0]], 0.0);
        assert_eq!(kept.painted(&[[1.0, 5.0], [2.0, 6.0]], (0.0, 9.0)), (vec![[1.0, 5.0], [2.0, 6.0]], Vec::new()));
        let other = [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]];
        kept.follow(&other, 0.0);
        assert_eq!(kept.span(), Some((1.0, 3.0)));
        kept.follow(&other, 0.5);
        assert_eq!(kept.painted(&other, (0.0, 9.0)).1.len(), 3);
        kept.follow(&[], 0.5);
        assert_eq!((kept.span(), kept.painted(&[], (0.0, 9.0))), (None, (Vec::new(), Vec::new())));
        kept.follow(&[[1.0, f64::NAN]], 0.5);
        kept.follow(&[[1.0, f64::NAN], [2.0, 4.0]], 0.5);
        assert_eq!(kept.span(), Some((4.0, 4.0)), "something that is not a number is the same as before");
    }

    #[test]
    fn the_window_of_a_curve_reaches_one_point_past_its_edges() {
        let line: Vec<Point> = (0..10).map(|i| [f64::from(i), 0.0]).collect();
        let seen = within(&line, 3.5, 5.5);
        assert_eq!((seen[0][0], seen[seen.len() - 1][0]), (3.0, 6.0));
        assert!(within(&[], 0.0, 1.0).is_empty());
    }
}
