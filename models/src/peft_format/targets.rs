//! Which modules an adapter sits on: PEFT's rules for `target_modules`.

use peft_plan::{Fault, ModelSpec, Result, TargetModules};
use regex::Regex;

/// The word for every linear module but the output head.
const ALL_LINEAR: &str = "all-linear";

/// Whether the linear module at `path` (`model.layers.0.self_attn.q_proj`) is a target.
///
/// A list names modules by full path or by its end; a pattern must match the whole path.
pub fn matches(targets: &TargetModules, path: &str) -> Result<bool> {
    match targets {
        TargetModules::List(names) => Ok(names.iter().any(|name| is_or_ends_with(path, name))),
        TargetModules::Pattern(word) if word.eq_ignore_ascii_case(ALL_LINEAR) => Ok(!is_or_ends_with(path, "lm_head")),
        TargetModules::Pattern(pattern) => Ok(whole(pattern)?.is_match(path)),
    }
}

/// The targets in a form that every reader of adapters understands: `all-linear` as the names of
/// `spec`'s modules, a list sorted, a pattern as it is: but in a model with experts, whose tensors PEFT matches with
/// patterns too, the paths that the pattern means.
pub fn explicit_targets(targets: &TargetModules, spec: &ModelSpec) -> TargetModules {
    let names = match targets {
        TargetModules::List(names) => names.clone(),
        TargetModules::Pattern(word) if word.eq_ignore_ascii_case(ALL_LINEAR) => {
            spec.target_names().into_iter().map(str::to_owned).collect()
        }
        TargetModules::Pattern(_) if spec.experts.is_some() => {
            let modules = |i| spec.target_modules(i).map(move |m| format!("model.layers.{i}.{}", m.name));
            let paths = (0..spec.layers.len()).flat_map(modules);
            paths.filter(|path| matches(targets, path).unwrap_or(false)).collect()
        }
        TargetModules::Pattern(_) => return targets.clone(),
    };
    let mut names = names;
    names.sort();
    names.dedup();
    TargetModules::List(names)
}

fn is_or_ends_with(path: &str, name: &str) -> bool {
    path == name || path.strip_suffix(name).is_some_and(|front| front.ends_with('.'))
}

fn whole(pattern: &str) -> Result<Regex> {
    compile(pattern, &format!("^(?:{pattern})$"))
}

/// A key of `rank_pattern` or `alpha_pattern`, which names the end of a path.
pub(super) fn end_of_path(pattern: &str) -> Result<Regex> {
    compile(pattern, &format!(r"^(?:.*\.)?(?:{pattern})$"))
}

fn compile(written: &str, anchored: &str) -> Result<Regex> {
    Regex::new(anchored).map_err(|error| {
        Fault::new("PS-CFG-001", format!("`{written}` is not a pattern for module names: {error}")).caused_by(error)
    })
}
