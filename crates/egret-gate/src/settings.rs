//! How a model is compiled, as an `egret.toml` says it and options of commands do.

use egret::ir::{Denormals, Dim, advice};
use egret::source::Request;
use egret::{Options, Result, Tier, shapes, target_names};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What is chosen about a compilation; the rest stays as it is without.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// The target: a name that `egret doctor` lists, or the path of a machine's file; several with commas are levels of an artifact.
    pub target: Option<String>,
    /// What rewrite rules may change.
    pub tier: Option<Tier>,
    /// What becomes of subnormal floats.
    pub denormals: Option<Denormals>,
    /// Values of free dims.
    pub dims: BTreeMap<String, i64>,
    /// Shapes of inputs, of sizes and free dims.
    pub shapes: BTreeMap<String, Vec<Dim>>,
    /// The most that dims may be which loops of the model decide.
    pub at_most: BTreeMap<String, Dim>,
}

impl Settings {
    /// Let other settings go before these.
    pub fn overlay(&mut self, other: &Settings) {
        self.target = other.target.clone().or(self.target.take());
        self.tier = other.tier.or(self.tier);
        self.denormals = other.denormals.or(self.denormals);
        self.dims.extend(other.dims.clone());
        self.shapes.extend(other.shapes.clone());
        self.at_most.extend(other.at_most.clone());
    }

    /// What remains of these where others go before them.
    #[must_use]
    pub fn beneath(&self, others: &Settings) -> Settings {
        let mut left = self.clone();
        left.target = left.target.filter(|_| others.target.is_none());
        left.tier = left.tier.filter(|_| others.tier.is_none());
        left.denormals = left.denormals.filter(|_| others.denormals.is_none());
        left.dims.retain(|name, _| !others.dims.contains_key(name));
        left.shapes.retain(|name, _| !others.shapes.contains_key(name));
        left.at_most.retain(|name, _| !others.at_most.contains_key(name));
        left
    }

    /// What they say of dims and shapes alone, which any machine's code is for.
    #[must_use]
    pub fn of_dims(&self) -> Settings {
        Settings { target: None, tier: None, denormals: None, ..self.clone() }
    }

    /// Put them into what a compilation is asked for by.
    ///
    /// # Errors
    /// The target is a machine's file that cannot be read or is wrong.
    pub fn apply(&self, request: &mut Request, options: &mut Options) -> Result<()> {
        request.dims.extend(self.dims.clone());
        request.shapes.extend(self.shapes.clone());
        request.at_most.extend(self.at_most.clone());
        options.tier = self.tier.unwrap_or(options.tier);
        options.denormals = self.denormals.or(options.denormals);
        match &self.target {
            Some(target) => options.set_target(target),
            None => Ok(()),
        }
    }

    /// The files that targets are, which machines have.
    pub fn files(&self) -> Vec<PathBuf> {
        self.target
            .iter()
            .flat_map(|targets| target_names(targets))
            .map(PathBuf::from)
            .filter(|p| p.extension().is_some_and(|e| e == "toml"))
            .collect()
    }

    /// The options of commands that say the same, as a shell reads them; empty where nothing is said.
    pub fn options(&self) -> String {
        let mut words: Vec<String> = vec![];
        let mut option = |name: &str, value: String| {
            // What begins with a hyphen would be the next option.
            words.push(match value.starts_with('-') {
                true => format!("{name}={}", advice::word(&value)),
                false => format!("{name} {}", advice::word(&value)),
            });
        };
        self.dims.iter().for_each(|(dim, size)| option("--dim", format!("{dim}={size}")));
        let shape = |(input, shape): (&String, &Vec<Dim>)| format!("{input}={}", shapes::spelt(shape));
        self.shapes.iter().for_each(|said| option("--shape", shape(said)));
        self.at_most.iter().for_each(|(dim, most)| option("--at-most", format!("{dim}={most}")));
        self.target.iter().for_each(|target| option("--target", target.clone()));
        self.tier.iter().for_each(|tier| option("--tier", tier.name().to_owned()));
        self.denormals.iter().for_each(|denormals| option("--denormals", denormals.to_string()));
        words.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::Settings;
    use egret::ir::{Denormals, text};
    use egret::source::Request;
    use egret::{Options, Tier, shapes};

    fn all() -> Settings {
        Settings {
            target: Some("x86-64-v3".into()),
            tier: Some(Tier::Exact),
            denormals: Some(Denormals::Keep),
            dims: [("the batch".into(), 1), ("-n".into(), 2)].into(),
            shapes: [("x".into(), shapes::read("1,?,W").unwrap())].into(),
            at_most: [("u0".into(), text::parse_dim("20*seq").unwrap())].into(),
        }
    }

    #[test]
    fn what_is_said_later_goes_before() {
        let later = Settings {
            target: Some("aarch64".into()),
            dims: [("the batch".into(), 4)].into(),
            ..Settings::default()
        };
        let left = all().beneath(&later);
        assert_eq!((left.target.clone(), left.dims.len(), left.tier), (None, 1, Some(Tier::Exact)));
        let mut both = all();
        both.overlay(&later);
        let mut again = left;
        again.overlay(&later);
        assert_eq!(both, again);
        assert_eq!(all().beneath(&all()), Settings::default());
        assert_eq!(all().beneath(&Settings::default()), all());
    }

    #[test]
    fn everything_reaches_the_compilation() {
        let (mut request, mut options) = (Request::default(), Options::default());
        request.dims.insert("other".into(), 3);
        all().apply(&mut request, &mut options).unwrap();
        assert_eq!(request.dims.len(), 3);
        assert_eq!((&request.at_most, &request.shapes), (&all().at_most, &all().shapes));
        assert_eq!((options.target.as_str(), options.tier), ("x86-64-v3", Tier::Exact));
        assert_eq!(options.denormals, Some(Denormals::Keep));
        let before = format!("{request:?} {options:?}");
        Settings::default().apply(&mut request, &mut options).unwrap();
        assert_eq!(format!("{request:?} {options:?}"), before, "nothing said, nothing changed");
    }

    #[test]
    fn options_are_for_a_shell() {
        assert_eq!(
            all().options(),
            "--dim=-n=2 --dim 'the batch=1' --shape 'x=1,?,W' --at-most 'u0=20*seq' --target x86-64-v3 --tier exact --denormals keep"
        );
        assert_eq!(Settings::default().options(), "");
    }
}
