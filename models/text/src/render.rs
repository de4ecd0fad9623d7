//! The one function from an example to token ids and loss mask (D2, D3).

use crate::answers::{Layout, Region};
use crate::rendered::Rendered;
use crate::spelling::{Controls, Encoded, Expanded};
use crate::template::{ChatTemplate, Session};
use crate::tokenizer::{Tokenizer, encode_fault};
use peft_plan::{Example, Fault, Result, Role, TrainOn, Turn, TurnExtra};
use serde_json::Value;
use std::borrow::Cow;

/// How conversations are rendered in a run.
#[derive(Clone, Debug)]
pub struct RenderOptions {
    /// The chat template, resolved for the tokenizer that renders.
    pub template: ChatTemplate,
    /// What is learnt of a conversation.
    pub train_on: TrainOn,
    /// The date templates print, `2024-07-26`: fixed, so that a run can be repeated.
    pub date: String,
    /// Put before conversations that have no system turn.
    pub system_prompt: Option<String>,
}

impl RenderOptions {
    /// Learn the answers, add no system prompt.
    pub fn new(template: ChatTemplate, date: impl Into<String>) -> Self {
        Self { template, train_on: TrainOn::Assistant, date: date.into(), system_prompt: None }
    }

    /// The turns a template gets: with the system prompt, with what the template cannot write put into words, and
    /// with what people must not write replaced by stand-ins. Also says whether there are stand-ins.
    fn turns(&self, turns: &[Turn]) -> (Vec<Turn>, bool) {
        let system = match &self.system_prompt {
            Some(text) if turns.iter().all(|turn| turn.role != Role::System) => Some(Turn::new(Role::System, text)),
            _ => None,
        };
        let mut spelled = false;
        let template = self.template.fitting(turns);
        let turns = system.iter().chain(turns).map(|turn| {
            let mut turn = in_words(turn, template);
            escape(&mut turn, template.controls(), &mut spelled);
            turn
        });
        let turns = turns.collect();
        (turns, spelled)
    }
}

/// `turn` with the parts that `template` does not write in its content.
fn in_words(turn: &Turn, template: &ChatTemplate) -> Turn {
    let mut turn = turn.clone();
    let Some(extra) = &mut turn.extra else { return turn };
    let mut lost = Turn::new(turn.role, turn.content.as_str());
    if !extra.tool_calls.is_empty() && !template.writes_calls() {
        lost.extra_mut().tool_calls = std::mem::take(&mut extra.tool_calls);
    }
    if extra.reasoning.is_some() && !template.writes_reasoning() {
        lost.extra_mut().reasoning = extra.reasoning.take();
    }
    turn.content = lost.as_text().into_owned();
    turn
}

/// Stand-ins for every control token that a turn spells.
fn escape(turn: &mut Turn, controls: &Controls, spelled: &mut bool) {
    let mut text = |text: &mut String| {
        if let Cow::Owned(escaped) = controls.escape(text) {
            *spelled = true;
            *text = escaped;
        }
    };
    text(&mut turn.content);
    let Some(extra) = &mut turn.extra else { return };
    let TurnExtra { tool_calls, reasoning, name, tool_call_id, tools, schema: _, null_content: _ } = &mut **extra;
    [reasoning, name, tool_call_id].into_iter().flatten().for_each(&mut text);
    tool_calls.iter_mut().chain(tools).for_each(|value| escape_value(value, &mut text));
}

fn escape_value(value: &mut Value, text: &mut impl FnMut(&mut String)) {
    match value {
        Value::String(string) => text(string),
        Value::Array(list) => list.iter_mut().for_each(|item| escape_value(item, text)),
        Value::Object(fields) => {
            let members = std::mem::take(fields).into_iter().map(|(mut key, mut value)| {
                text(&mut key);
                escape_value(&mut value, text);
                (key, value)
            });
            *fields = members.collect();
        }
        _ => {}
    }
}

impl Tokenizer {
    /// Token ids and loss mask of an example.
    pub fn render(&self, example: &Example, options: &RenderOptions) -> Result<Rendered> {
        match example {
            Example::Messages(turns) => self.render_turns(turns, options),
            Example::Text(text) => self.render_text(text),
            Example::Rated { .. } => self.render_turns(&example.conversation().unwrap_or_default(), options),
            // Two sequences: whoever compares renders each by itself.
            Example::Preference { .. } => Err(Fault::new(
                "PS-CFG-001",
                "This row says which answers are preferred; set `training.objective` to dpo, orpo or kto",
            )),
        }
    }

    /// The ids after which the model answers: `turns` and the template's generation prompt.
    pub fn render_prompt(&self, turns: &[Turn], options: &RenderOptions) -> Result<Vec<u32>> {
        let (turns, spelled) = options.turns(turns);
        let template = options.template.fitting(&turns);
        let session = template.session(&turns, &options.date)?;
        let text = session.plain(turns.len(), true)?;
        let (_, (ids, _)) = self.encode_rendering(text, spelled, template)?;
        Ok(ids)
    }

    /// Raw text: what the tokenizer adds, the text, and the end token; all of it but BOS is learnt.
    fn render_text(&self, text: &str) -> Result<Rendered> {
        let (mut ids, mut offsets) = self.encode_raw(text, true)?;
        self.drop_second_bos(&mut ids, &mut offsets);
        let mut text = text.to_owned();
        let ends = ids.last().is_some_and(|id| self.stop_ids().contains(id));
        if !ends {
            let Some(eos) = self.eos() else {
                return Err(Fault::new(
                    "PS-TOK-002",
                    "The tokenizer names no end token, so the model would never learn where a \
                     text ends.",
                ));
            };
            ids.push(eos.id);
            let end = text.len();
            text.push_str(&eos.text);
            offsets.push((end, text.len()));
        }
        let trained = self.all_but_bos(&ids);
        Ok(Rendered { stops: vec![ids.len() - 1], ids, trained, text, offsets, ..Rendered::default() })
    }

    fn render_turns(&self, turns: &[Turn], options: &RenderOptions) -> Result<Rendered> {
        if turns.is_empty() {
            return Err(Fault::new("PS-DATA-004", "A conversation has no turns."));
        }
        let (turns, spelled) = options.turns(turns);
        let template = options.template.fitting(&turns);
        let session = template.session(&turns, &options.date)?;
        let full = session.plain(turns.len(), false)?;
        let regions = regions(&session, &turns, &full, options.train_on)?;
        let (mut expanded, (mut ids, mut offsets)) = self.encode_rendering(full, spelled, template)?;
        let mut row = Rendered {
            trained: match options.train_on {
                TrainOn::All => self.all_but_bos(&ids),
                TrainOn::Assistant => vec![false; ids.len()],
            },
            ..Rendered::default()
        };
        for region in &regions {
            let turn = &turns[region.turn];
            let tokens = Tokens { ids: &ids, offsets: &offsets, stop_ids: template.stop_ids() };
            let (range, stop) = tokens.of(region, &expanded);
            let learnt = is_learnt(turn, options.train_on);
            let refuses = options.train_on == TrainOn::Assistant && turn.role == Role::Assistant;
            if learnt && refuses && stop.is_none() {
                return Err(no_stop(region.turn, template));
            }
            row.trained[range.clone()].fill(learnt);
            if learnt {
                row.stops.extend(stop);
                row.answers.push(range);
            }
        }
        if options.train_on == TrainOn::All {
            let known = template.stop_ids();
            let ends = ids.iter().skip(1).any(|id| known.contains(id));
            let last = turns.last().is_none_or(|turn| turn.train != Some(false));
            // D3: whatever is learnt must end.
            if !ends && last {
                let eos = self.eos().ok_or_else(|| no_stop(turns.len() - 1, template))?;
                let end = expanded.display.len();
                expanded.display.push_str(&eos.text);
                row.stops.push(ids.len());
                ids.push(eos.id);
                offsets.push((end, expanded.display.len()));
                row.trained.push(true);
            }
        }
        row.ids = ids;
        row.offsets = offsets;
        row.text = expanded.display;
        Ok(row)
    }

    /// Encodes a rendering in one piece and without adding anything; at most one BOS.
    fn encode_rendering(
        &self,
        rendering: String,
        spelled: bool,
        template: &ChatTemplate,
    ) -> Result<(Expanded, Encoded)> {
        let controls = template.controls();
        let twin = if spelled { Some(self.respelled()?) } else { None };
        let expanded = Expanded::new(rendering, controls, twin);
        let (mut ids, mut offsets) = match (twin, &expanded.coded) {
            (Some(twin), Some(coded)) => {
                expanded.encode(coded, twin, controls).map_err(|error| encode_fault(&error))?
            }
            _ => self.encode_raw(&expanded.display, false)?,
        };
        self.drop_second_bos(&mut ids, &mut offsets);
        Ok((expanded, (ids, offsets)))
    }

    fn drop_second_bos(&self, ids: &mut Vec<u32>, offsets: &mut Vec<(usize, usize)>) {
        if let (Some(bos), [first, second, ..]) = (self.bos(), ids.as_slice())
            && *first == bos.id
            && *second == bos.id
        {
            ids.remove(1);
            offsets.remove(1);
        }
    }

    fn all_but_bos(&self, ids: &[u32]) -> Vec<bool> {
        let mut trained = vec![true; ids.len()];
        if let (Some(bos), Some(first), true) = (self.bos(), ids.first(), ids.len() > 1)
            && *first == bos.id
        {
            trained[0] = false;
        }
        trained
    }
}

/// Whether the loss counts a turn.
fn is_learnt(turn: &Turn, train_on: TrainOn) -> bool {
    turn.train.unwrap_or(train_on == TrainOn::All || turn.role == Role::Assistant)
}

/// The regions whose mask differs from the row's ground colour, and all learnt answers.
fn regions(session: &Session<'_>, turns: &[Turn], full: &str, train_on: TrainOn) -> Result<Vec<Region>> {
    let layout = Layout::new(session, turns, full);
    match train_on {
        TrainOn::Assistant => layout.regions(|_, turn| is_learnt(turn, train_on)),
        TrainOn::All => {
            let mut regions = layout.regions(|_, turn| turn.train == Some(false))?;
            // Answers matter here for where a row may be cut; a layout they cannot be found in is
            // no reason to refuse the row.
            let answers = layout.regions(|_, turn| turn.role == Role::Assistant && is_learnt(turn, train_on));
            regions.extend(answers.unwrap_or_default());
            regions.sort_by_key(|region| region.start);
            Ok(regions)
        }
    }
}

fn no_stop(turn: usize, template: &ChatTemplate) -> Fault {
    Fault::new(
        "PS-TOK-002",
        format!(
            "Turn {} has no end token after the answer: the chat layout `{}` does not end it with \
             a token the model stops at, so the model would talk on for ever.",
            turn + 1,
            template.name()
        ),
    )
}

/// The tokens of a rendering.
struct Tokens<'a> {
    ids: &'a [u32],
    offsets: &'a [(usize, usize)],
    stop_ids: &'a [u32],
}

impl Tokens<'_> {
    /// The tokens of `region` and its end-of-turn token: from the first token that begins in it up
    /// to and including the first stop token; without one, up to the end of the content.
    fn of(&self, region: &Region, expanded: &Expanded) -> (std::ops::Range<usize>, Option<usize>) {
        let start = expanded.displayed(region.start);
        let limit = expanded.displayed(region.limit);
        let content_end = region.content_end.map(|end| expanded.displayed(end));
        let after = |position: usize| self.offsets.partition_point(|range| range.0 < position);
        let (first, last) = (after(start), after(limit));
        let stop = (first..last).find(|at| self.stop_ids.contains(&self.ids[*at]));
        match stop {
            Some(stop) => (first..stop + 1, Some(stop)),
            None => (first..after(content_end.unwrap_or(limit)).max(first), None),
        }
    }
}
