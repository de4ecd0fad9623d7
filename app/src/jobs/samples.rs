//! Which prompts a run answers at each evaluation: those of its configuration, or its first held-out examples.

use super::answer::Wording;
use peft_models::base::BaseModel;
use peft_models::train::SamplePrompt;
use peft_plan::config::SampleRef;
use peft_plan::{Example, Fault, Result, Role, Row, RunConfig, SamplePlan, Turn};

/// The prompts of a run. `held_out`: indices of the held-out rows, in their order.
pub fn prompts(config: &RunConfig, base: &BaseModel, rows: &[Row], held_out: &[usize]) -> Result<Vec<SamplePrompt>> {
    let evaluation = &config.evaluation;
    let SamplePlan { prompts: most, tokens } = SamplePlan::of_config(evaluation, held_out.len());
    if most == 0 {
        return Ok(Vec::new());
    }
    let system = config.dataset.system_prompt.as_deref();
    let wording = Wording::new(base, config.dataset.chat_template.as_deref(), system)?;
    let room = base.spec().max_positions.saturating_sub(tokens);
    if let Some(given) = &evaluation.sample_prompts {
        let prompt = |(i, prompt): (usize, &SampleRef)| {
            let turns = match prompt {
                SampleRef::Text(text) => vec![Turn::new(Role::User, text.as_str())],
                SampleRef::Turns(turns) => turns.clone(),
            };
            let ids = wording.prompt(&turns)?;
            if ids.len() > room {
                let detail = format!(
                    "`evaluation.sample_prompts[{i}]` has {} tokens; with the answer there is room for {room}",
                    ids.len()
                );
                return Err(Fault::new("PS-CFG-001", detail));
            }
            Ok(SamplePrompt { prompt: asked(&turns), ids, expected: None })
        };
        return given.iter().enumerate().take(most).map(prompt).collect();
    }
    let mut chosen = Vec::new();
    for &row in held_out {
        if chosen.len() >= most {
            break;
        }
        chosen.extend(prompt_of(&wording, &rows[row].example, room));
    }
    Ok(chosen)
}

/// The first row of the data that asks something.
pub fn first_question(rows: &[Row]) -> Option<Example> {
    rows.iter().map(|row| &row.example).find(|example| question(example).is_some()).cloned()
}

/// What an example of a run asks, for whoever wants to try a model on what it is for.
pub fn trial(config: &RunConfig, base: &BaseModel, example: &Example) -> Option<SamplePrompt> {
    let dataset = &config.dataset;
    let wording = Wording::new(base, dataset.chat_template.as_deref(), dataset.system_prompt.as_deref()).ok()?;
    prompt_of(&wording, example, (base.spec().max_positions / 2).saturating_sub(1))
}

/// The question of an example, of at most `room` tokens. A row that the layout refuses is refused where rows are
/// rendered, with its line.
fn prompt_of(wording: &Wording, example: &Example, room: usize) -> Option<SamplePrompt> {
    let (turns, expected) = question(example)?;
    let ids = wording.prompt(turns).ok().filter(|ids| ids.len() <= room)?;
    Some(SamplePrompt { prompt: asked(turns), ids, expected })
}

/// What a row asks, and what it would like to hear.
fn question(example: &Example) -> Option<(&[Turn], Option<String>)> {
    let (prompt, answer) = match example {
        Example::Messages(turns) => {
            let last = turns.iter().rposition(|turn| turn.role == Role::Assistant)?;
            (&turns[..last], Some(turns[last].content.clone()))
        }
        Example::Preference { prompt, chosen, .. } => (&prompt[..], chosen.first().map(|turn| turn.content.clone())),
        Example::Rated { prompt, answer, desirable } => {
            (&prompt[..], answer.first().filter(|_| *desirable).map(|turn| turn.content.clone()))
        }
        Example::Text(_) => return None,
    };
    (!prompt.is_empty()).then_some((prompt, answer))
}

/// What a person sees of a prompt: the last question.
fn asked(turns: &[Turn]) -> String {
    let question = turns.iter().rfind(|turn| turn.role == Role::User).or(turns.last());
    question.map(|turn| turn.content.clone()).unwrap_or_default()
}
