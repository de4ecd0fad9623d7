//! Launches that come again and again, given to the driver as one graph instead of one by one.
//!
//! Launches are gathered until somebody asks for results or sends data, or until there are [`MOST`] of them. A list
//! whose kernels came before in the same order, with nearly the same arguments, is launched as a graph, into which the
//! arguments that differ are written first. So nobody has to say what changes from step to step (tokens, lengths of
//! caches, streams of dropout, rates), and with graphs or without the same kernels run with the same arguments in the
//! same order: no bit of a result differs.
//!
//! A list that comes for the first time is launched kernel by kernel, one that comes for the second time becomes a
//! graph. Steps of ever new sizes never repeat, and are launched as without graphs.
//!
//! A driver keeps every kernel of a graph in the card's memory: no more are kept than there is room for
//! (`graph_room.rs`). A graph makes way for one whose list came before it did, and was not seen since: of lists that come
//! in turns and do not all find room, the same ones stay graphs.

use super::driver::reserve_of;
use super::graph_room::Room;
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{
    self, CUDA_KERNEL_NODE_PARAMS_v2_st as NodeParams, CUfunction, CUgraph, CUgraphExec, CUgraphNode, CUresult,
};
use std::ffi::c_void;
use std::ptr::null_mut;

/// What a driver must have for them, besides what every driver must have.
pub(super) const NEEDED: [&str; 7] = [
    "cuGraphCreate",
    "cuGraphAddKernelNode_v2",
    "cuGraphInstantiateWithFlags",
    "cuGraphExecKernelNodeSetParams_v2",
    "cuGraphLaunch",
    "cuGraphExecDestroy",
    "cuGraphDestroy",
];

/// Launches of a list: the card begins with the first ones while the others are still being made.
const MOST: usize = 128;
/// Shorter lists are not worth a graph.
const FEWEST: usize = 4;
/// Lists that are remembered.
const REMEMBERED: usize = 192;
/// Of so many launches one may have other arguments.
const ONE_IN: usize = 4;

/// A kernel that is to run, and where its arguments stand among those of its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Launch {
    kernel: &'static str,
    function: CUfunction,
    blocks: u32,
    threads: u32,
    first: usize,
    count: usize,
}

/// Kernels in the order in which they run.
#[derive(Clone, Debug, Default)]
struct List {
    launches: Vec<Launch>,
    values: Vec<u64>,
}

impl List {
    fn push(&mut self, launch: Launch, values: impl Iterator<Item = u64>) {
        let first = self.values.len();
        self.values.extend(values);
        self.launches.push(Launch { first, count: self.values.len() - first, ..launch });
    }

    fn clear(&mut self) {
        self.launches.clear();
        self.values.clear();
    }

    fn arguments(&self, launch: &Launch) -> &[u64] {
        &self.values[launch.first..launch.first + launch.count]
    }

    /// Whether the same kernels are in both, in the same order.
    fn is_like(&self, other: &Self) -> bool {
        let same =
            |(a, b): (&Launch, &Launch)| a.function == b.function && a.threads == b.threads && a.count == b.count;
        self.launches.len() == other.launches.len() && self.launches.iter().zip(&other.launches).all(same)
    }

    /// Which launches of a list that is like `self` have other arguments there; `None`: more than `most`.
    fn differing(&self, other: &Self, most: usize) -> Option<Vec<usize>> {
        let mut found = Vec::new();
        for (i, (a, b)) in self.launches.iter().zip(&other.launches).enumerate() {
            if a.blocks != b.blocks || self.arguments(a) != other.arguments(b) {
                if found.len() == most {
                    return None;
                }
                found.push(i);
            }
        }
        Some(found)
    }

    /// Call `with` with the parameters of launch `i` as the driver takes them.
    fn with_params<T>(&self, i: usize, with: impl FnOnce(&NodeParams) -> T) -> T {
        let launch = &self.launches[i];
        // Low bytes first: a parameter of four bytes reads the first four.
        let mut values: Vec<u64> = self.arguments(launch).iter().map(|value| value.to_le()).collect();
        let mut places: Vec<*mut c_void> = values.iter_mut().map(|value| (&raw mut *value).cast()).collect();
        with(&NodeParams {
            func: launch.function,
            gridDimX: launch.blocks,
            gridDimY: 1,
            gridDimZ: 1,
            blockDimX: launch.threads,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: 0,
            kernelParams: places.as_mut_ptr(),
            extra: null_mut(),
            kern: null_mut(),
            ctx: null_mut(),
        })
    }

    /// Run them one by one.
    fn run(&self) -> Result<(), (String, DriverError)> {
        for (i, launch) in self.launches.iter().enumerate() {
            self.with_params(i, |p| {
                let (grid, block) = ((p.gridDimX, 1, 1), (p.blockDimX, 1, 1));
                // SAFETY: as many places as the launch has arguments, each of which lasts until the driver has copied
                // it. The emulation compares every call's arguments with the kernel's parameters, and every access with
                // the memory it may touch (`tests/conformance`).
                unsafe {
                    let places = std::slice::from_raw_parts_mut(p.kernelParams, launch.count);
                    result::launch_kernel(p.func, grid, block, 0, null_mut(), places)
                }
            })
            .map_err(|e| (launch.kernel.to_owned(), e))?;
        }
        Ok(())
    }
}

/// A list as the driver keeps it.
struct Graph {
    /// What `exec` was made from; its nodes name the launches.
    template: CUgraph,
    exec: CUgraphExec,
    nodes: Vec<CUgraphNode>,
}

fn checked(answer: CUresult) -> Result<(), DriverError> {
    if answer == CUresult::CUDA_SUCCESS { Ok(()) } else { Err(DriverError(answer)) }
}

impl Graph {
    /// `list` as a chain: every kernel begins when the one before has ended.
    fn of(list: &List) -> Result<Self, DriverError> {
        let mut made = Self { template: null_mut(), exec: null_mut(), nodes: Vec::with_capacity(list.launches.len()) };
        // SAFETY: writes a handle; what is made is given back by `drop`, whatever fails behind it.
        checked(unsafe { sys::cuGraphCreate(&raw mut made.template, 0) })?;
        for i in 0..list.launches.len() {
            let (before, mut node) = (made.nodes.last().copied(), null_mut());
            let (at, count) = before.as_ref().map_or((std::ptr::null(), 0), |node| (std::ptr::from_ref(node), 1));
            let added = list.with_params(i, |params| {
                // SAFETY: a graph of this function, at most one node of it before, and parameters that are copied.
                unsafe { sys::cuGraphAddKernelNode_v2(&raw mut node, made.template, at, count, params) }
            });
            checked(added)?;
            made.nodes.push(node);
        }
        // SAFETY: writes a handle to a graph that is whole.
        checked(unsafe { sys::cuGraphInstantiateWithFlags(&raw mut made.exec, made.template, 0) })?;
        Ok(made)
    }

    /// Launch number `i` is that of `list` from the next run on.
    fn update(&self, list: &List, i: usize) -> Result<(), DriverError> {
        // SAFETY: a node of the graph and parameters that are copied.
        checked(list.with_params(i, |params| unsafe {
            sys::cuGraphExecKernelNodeSetParams_v2(self.exec, self.nodes[i], params)
        }))
    }

    fn run(&self) -> Result<(), DriverError> {
        // SAFETY: a whole graph, on the stream of everything else.
        checked(unsafe { sys::cuGraphLaunch(self.exec, null_mut()) })
    }
}

impl Drop for Graph {
    /// The card's context is that of this thread. What still runs is given back when it has ended.
    fn drop(&mut self) {
        // SAFETY: made by `of` and destroyed once. What cannot be given back is gone with the card.
        unsafe {
            if !self.exec.is_null() {
                let _gone = sys::cuGraphExecDestroy(self.exec);
            }
            if !self.template.is_null() {
                let _gone = sys::cuGraphDestroy(self.template);
            }
        }
    }
}

/// A list that came before.
struct Known {
    list: List,
    graph: Option<Graph>,
    used: u64,
}

/// Launches that nobody waits for yet, and lists that came before.
pub(super) struct Graphs {
    open: List,
    known: Vec<Known>,
    clock: u64,
    /// Why there are none; then every kernel is launched at once.
    off: Option<String>,
    /// Lists that ran as graphs.
    replayed: u64,
    room: Room,
}

/// Which kernel did not start (or how many together), and why.
pub(super) type Failure = (String, DriverError);

impl Graphs {
    /// None are used, for this reason.
    pub(super) fn without(reason: impl Into<String>) -> Self {
        let (open, known, off) = (List::default(), Vec::new(), Some(reason.into()));
        Self { open, known, clock: 0, off, replayed: 0, room: Room::new(0, None) }
    }

    /// They are used from here on, within `room`.
    pub(super) fn begin(&mut self, room: Room) {
        self.off = None;
        self.room = room;
    }

    /// What they may take, and took.
    pub(super) fn room(&self) -> &Room {
        &self.room
    }

    /// So many bytes are set aside for them from here on; there are none.
    pub(super) fn give(&mut self, bytes: Option<usize>) {
        self.room = self.room.anew(bytes);
    }

    /// Kernels in graphs.
    fn kernels(&self) -> usize {
        self.known.iter().filter_map(|known| known.graph.as_ref()).map(|graph| graph.nodes.len()).sum()
    }

    /// Whether there is room for a graph of so many kernels, whose list was seen last at `seen`: others that were not used
    /// since then make way for it.
    fn makes_way(&mut self, kernels: usize, seen: u64) -> bool {
        while !self.room.holds(self.kernels() + kernels) {
            let unused = self.known.iter_mut().filter(|known| known.graph.is_some() && known.used < seen);
            let Some(oldest) = unused.min_by_key(|known| known.used) else { return false };
            oldest.graph = None;
        }
        true
    }

    /// Give back what the driver keeps for them; lists that come again become graphs again. The card's context is that of
    /// this thread.
    pub(super) fn give_back(&mut self) {
        self.known.iter_mut().for_each(|known| known.graph = None);
    }

    /// They are not used any more: everything is launched at once. The card's context is that of this thread.
    pub(super) fn stop(&mut self, reason: String) -> Result<(), Failure> {
        let run = self.run();
        self.forget();
        self.off = Some(reason);
        run
    }

    /// Why they are not used.
    pub(super) fn off(&self) -> Option<&str> {
        self.off.as_deref()
    }

    /// How many lists ran as graphs.
    pub(super) fn replayed(&self) -> u64 {
        self.replayed
    }

    /// Keep nothing. What was not run yet never runs. The card's context is that of this thread.
    pub(super) fn forget(&mut self) {
        self.open.clear();
        self.known.clear();
    }

    /// One more kernel to run. The card's context is that of this thread.
    pub(super) fn push(
        &mut self,
        kernel: &'static str,
        function: CUfunction,
        (blocks, threads): (u32, u32),
        values: impl Iterator<Item = u64>,
    ) -> Result<(), Failure> {
        self.open.push(Launch { kernel, function, blocks, threads, first: 0, count: 0 }, values);
        if self.off.is_some() || self.open.launches.len() == MOST { self.run() } else { Ok(()) }
    }

    /// Run what was gathered. The card's context is that of this thread.
    pub(super) fn run(&mut self) -> Result<(), Failure> {
        if self.open.launches.is_empty() {
            return Ok(());
        }
        let mut list = std::mem::take(&mut self.open);
        let result = self.run_list(&mut list);
        // Its room serves the next one.
        list.clear();
        self.open = list;
        result
    }

    fn run_list(&mut self, list: &mut List) -> Result<(), Failure> {
        if self.off.is_some() || list.launches.len() < FEWEST {
            return list.run();
        }
        self.clock += 1;
        let Some((found, differing)) = self.nearest(list) else {
            self.remember(list.clone());
            return list.run();
        };
        let seen = std::mem::replace(&mut self.known[found].used, self.clock);
        std::mem::swap(&mut self.known[found].list, list);
        let (known, count) = (&self.known[found], self.known[found].list.launches.len());
        let prepared = if let Some(graph) = &known.graph {
            differing.iter().try_for_each(|&i| graph.update(&known.list, i))
        } else {
            if !self.makes_way(count, seen) {
                return self.known[found].list.run();
            }
            let (free, total) = result::mem_get_info().unwrap_or_default();
            if !self.room.fits(count, free, reserve_of(total)) {
                return self.known[found].list.run();
            }
            match Graph::of(&self.known[found].list) {
                Ok(graph) => return self.run_new(found, graph, free),
                Err(DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => {
                    self.room.close();
                    return self.known[found].list.run();
                }
                Err(e) => Err(e),
            }
        };
        if let Err(e) = prepared {
            // Nothing of it ran: it does so one by one, and so does everything from here on.
            let whole = self.known.swap_remove(found).list;
            self.forget();
            self.off = Some(format!("the driver refused one: {}", super::driver::words(e)));
            return whole.run();
        }
        let run = self.known[found].graph.as_ref().map_or(Ok(()), Graph::run);
        self.ran(found, run)
    }

    /// Run a graph for the first time, of the list of `found`, before which so many bytes were free. It stays where it took
    /// no more than there is room for.
    fn run_new(&mut self, found: usize, graph: Graph, free: usize) -> Result<(), Failure> {
        let run = graph.run();
        // What it did not take when it was made, it took now.
        let after = result::mem_get_info().map_or(free, |(after, _)| after);
        if self.room.keeps(self.kernels() + graph.nodes.len(), free, after) {
            self.known[found].graph = Some(graph);
        }
        self.ran(found, run)
    }

    fn ran(&mut self, found: usize, run: Result<(), DriverError>) -> Result<(), Failure> {
        self.replayed += 1;
        let launches = &self.known[found].list.launches;
        run.map_err(|e| (format!("{} kernels from {} on", launches.len(), launches[0].kernel), e))
    }

    /// The list that came before and differs least from `list`, and where.
    fn nearest(&self, list: &List) -> Option<(usize, Vec<usize>)> {
        let mut most = list.launches.len() / ONE_IN;
        let mut nearest = None;
        for (i, known) in self.known.iter().enumerate().filter(|(_, known)| known.list.is_like(list)) {
            let Some(differing) = known.list.differing(list, most) else { continue };
            let is_same = differing.is_empty();
            most = differing.len().saturating_sub(1);
            nearest = Some((i, differing));
            if is_same {
                break;
            }
        }
        nearest
    }

    fn remember(&mut self, list: List) {
        if self.known.len() == REMEMBERED
            && let Some(oldest) = (0..self.known.len()).min_by_key(|&i| self.known[i].used)
        {
            self.known.swap_remove(oldest);
        }
        self.known.push(Known { list, graph: None, used: self.clock });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(launches: &[(usize, u32, &[u64])]) -> List {
        let mut list = List::default();
        for &(function, blocks, values) in launches {
            let function = std::ptr::without_provenance_mut(function);
            let launch = Launch { kernel: "k", function, blocks, threads: 32, first: 0, count: 0 };
            list.push(launch, values.iter().copied());
        }
        list
    }

    #[test]
    fn lists_are_alike_by_their_kernels_and_differ_by_arguments_and_blocks() {
        let a = list(&[(8, 1, &[1, 2]), (16, 1, &[3]), (8, 1, &[4, 5])]);
        assert!(a.is_like(&list(&[(8, 2, &[9, 9]), (16, 1, &[9]), (8, 1, &[4, 5])])));
        for other in [
            list(&[(8, 1, &[1, 2]), (16, 1, &[3])]),
            list(&[(8, 1, &[1, 2]), (24, 1, &[3]), (8, 1, &[4, 5])]),
            list(&[(8, 1, &[1, 2]), (16, 1, &[3, 3]), (8, 1, &[4, 5])]),
        ] {
            assert!(!a.is_like(&other), "{other:?}");
        }
        let b = list(&[(8, 2, &[1, 2]), (16, 1, &[3]), (8, 1, &[4, 6])]);
        assert_eq!(a.differing(&b, 2), Some(vec![0, 2]));
        assert_eq!((a.differing(&b, 1), a.differing(&a, 0)), (None, Some(Vec::new())));
    }

    #[test]
    fn the_nearest_list_is_found_and_a_far_one_is_none() {
        let of =
            |last: &[u64]| list(&[(8, 1, &[0]), (8, 1, &[0]), (8, 1, &[0]), (8, 1, &last[..1]), (8, 1, &last[1..])]);
        let mut graphs = Graphs::without("nothing is launched here");
        graphs.remember(of(&[1, 2]));
        graphs.remember(of(&[1, 3]));
        assert_eq!(graphs.nearest(&of(&[1, 3])), Some((1, Vec::new())));
        assert_eq!(graphs.nearest(&of(&[7, 2])), Some((0, vec![3])));
        assert_eq!(graphs.nearest(&of(&[7, 7])), None);
    }

    #[test]
    fn no_more_lists_are_kept_than_there_is_room_for() {
        let mut graphs = Graphs::without("nothing is launched here");
        for i in 0..2 * REMEMBERED as u64 {
            graphs.clock += 1;
            graphs.remember(list(&[(8, 1, &[i])]));
        }
        assert_eq!(graphs.known.len(), REMEMBERED);
        assert!(graphs.known.iter().all(|known| known.used > REMEMBERED as u64));
    }

    #[test]
    fn a_graph_makes_way_for_a_list_that_came_after_its_last_use_and_for_no_other() {
        let graph = |kernels| Graph { template: null_mut(), exec: null_mut(), nodes: vec![null_mut(); kernels] };
        let mut graphs = Graphs::without("nothing is launched here");
        graphs.begin(Room::new(1, Some(10)));
        for used in [3, 1, 2] {
            graphs.known.push(Known { list: list(&[(8, 1, &[used])]), graph: Some(graph(3)), used });
        }
        let left = |graphs: &Graphs| -> Vec<u64> {
            graphs.known.iter().filter(|known| known.graph.is_some()).map(|known| known.used).collect()
        };
        assert!(graphs.makes_way(1, 0), "there is room");
        // All of them were used since this one came before: lists that come in turns do not take each other's place.
        assert!(!graphs.makes_way(4, 1));
        assert_eq!((left(&graphs), graphs.kernels()), (vec![3, 1, 2], 9));
        assert!(graphs.makes_way(4, 3));
        assert_eq!((left(&graphs), graphs.kernels()), (vec![3, 2], 6));
        assert!(!graphs.makes_way(11, 4), "there will never be room");
        graphs.give_back();
        assert_eq!((graphs.kernels(), graphs.known.len()), (0, 3));
    }
}
