//! What rows can be about, as data. A new kind of row is a line here.

use peft_plan::{Fault, Result};
use serde_json::{Value, json};

/// What one row of a task holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A question and its answer.
    Pair,
    /// A question with four options, the right one, and why it is right.
    Choice,
    /// Several questions and answers that build on each other.
    Dialogue,
}

/// A kind of row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// As it is typed.
    pub name: &'static str,
    /// As people call it.
    pub title: &'static str,
    /// What the helper is asked to write.
    pub ask: &'static str,
    /// What a row holds.
    pub form: Form,
}

/// Every task, the usual one first.
pub const TASKS: [Task; 7] = [
    Task {
        name: "facts",
        title: "Questions about facts",
        ask: "questions about single facts, each with a complete answer in one to three sentences. Ask so that the \
              question can be understood by somebody who does not see the document",
        form: Form::Pair,
    },
    Task {
        name: "how-to",
        title: "How to do something",
        ask: "questions that ask how something is done, each answered with the steps in their order. Leave out what the \
              document does not explain",
        form: Form::Pair,
    },
    Task {
        name: "summary",
        title: "Summaries",
        ask: "requests to summarise or explain a subject of the document in a named length or style, each answered as asked",
        form: Form::Pair,
    },
    Task {
        name: "dialogue",
        title: "Conversations",
        ask: "conversations of two to four questions and answers that build on each other, between somebody who wants to \
              understand the subject and an assistant who knows it",
        form: Form::Dialogue,
    },
    Task {
        name: "classification",
        title: "Putting texts into classes",
        ask: "classification exercises: each question holds a short text in your own words and the list of classes to choose \
              from, each answer is exactly one of these classes",
        form: Form::Pair,
    },
    Task {
        name: "code",
        title: "Programming",
        ask: "programming tasks that the document shows how to solve, each answered with complete code in a fenced block and \
              one sentence about it",
        form: Form::Pair,
    },
    Task {
        name: "exam",
        title: "Exam questions",
        ask: "exam questions with exactly four options of which one is right, with the right option word for word as `answer` \
              and the reason as `explanation`",
        form: Form::Choice,
    },
];

impl Task {
    /// The task of this name. PS-CFG-001 where there is none.
    pub fn named(name: &str) -> Result<&'static Self> {
        TASKS.iter().find(|task| task.name == name).ok_or_else(|| {
            let names: Vec<&str> = TASKS.iter().map(|task| task.name).collect();
            Fault::new("PS-CFG-001", format!("`{name}` is no task; there are {}.", names.join(", ")))
        })
    }

    /// The JSON schema of a reply with up to `count` rows; with a quote where there is a document.
    pub fn schema(&self, count: usize, with_evidence: bool) -> Value {
        let text = json!({"type": "string"});
        let mut item = match self.form {
            Form::Pair => json!({"question": text, "answer": text}),
            Form::Choice => json!({
                "question": text,
                "options": {"type": "array", "items": text, "minItems": 4, "maxItems": 4},
                "answer": text,
                "explanation": text,
            }),
            Form::Dialogue => {
                let exchange = object(&json!({"question": text, "answer": text}));
                json!({"exchanges": {"type": "array", "items": exchange, "minItems": 2, "maxItems": 4}})
            }
        };
        if with_evidence {
            item["evidence"] = text;
        }
        let items = json!({"type": "array", "items": object(&item), "minItems": 1, "maxItems": count.max(1)});
        object(&json!({"items": items}))
    }
}

/// Every property is needed, and no other is allowed: what the strict form of OpenAI demands.
fn object(properties: &Value) -> Value {
    let names: Vec<String> = properties.as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default();
    json!({"type": "object", "properties": properties, "required": names, "additionalProperties": false})
}

#[cfg(test)]
mod tests {
    use super::*;
    use peft_plan::judge::fits_schema;

    #[test]
    fn every_task_has_a_schema_that_its_rows_fit() {
        let pair = json!({"items": [{"question": "q", "answer": "a", "evidence": "e"}]});
        let choice = json!({"items": [{"question": "q", "options": ["a", "b", "c", "d"], "answer": "a", "explanation": "x", "evidence": "e"}]});
        let talk = json!({"items": [{"exchanges": [{"question": "q", "answer": "a"}, {"question": "r", "answer": "b"}], "evidence": "e"}]});
        for task in &TASKS {
            let schema = task.schema(3, true);
            let fitting = [&pair, &choice, &talk].iter().filter(|reply| fits_schema(reply, &schema)).count();
            assert_eq!(fitting, 1, "{}", task.name);
            assert_eq!(Task::named(task.name).expect("known").name, task.name);
        }
        assert_eq!(Task::named("poem").expect_err("unknown").code, "PS-CFG-001");
    }
}
