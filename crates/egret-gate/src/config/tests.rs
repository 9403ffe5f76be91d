//! Files that are right, and what is said of those that are not.

use super::Config;
use crate::gate::Check;

fn ids(config: &Config, section: Option<&str>) -> Vec<String> {
    let gates = config.rules_for(section).gates;
    gates.iter().map(|g| format!("{} {}", g.check.id(), g.place)).collect()
}

const WHOLE: &str = r#"
target = "x86-64-v3"
tier = "exact"
dims = { batch = 1 }
deny = ["missed:attention", "missed:gelu"]
[budget]
kernels = 60
size = "2MB"
[expect]
attention = 12
[model."sub/b.onnx"]
dims = { length = 0x10 }
expect.softmax = 0
[model."sub/b.onnx".budget]
size = 5_000
"#;

#[test]
fn a_section_changes_what_it_names() {
    let config = Config::parse("e.toml", WHOLE).unwrap();
    let first = [
        "budget/size e.toml:8",
        "budget/kernels e.toml:7",
        "expect/attention e.toml:10",
        "deny/missed:attention e.toml:5",
        "deny/missed:gelu e.toml:5",
    ];
    assert_eq!(ids(&config, None), first);
    let second = [
        "budget/size e.toml:15",
        "budget/kernels e.toml:7",
        "expect/attention e.toml:10",
        "expect/softmax e.toml:13",
        "deny/missed:attention e.toml:5",
        "deny/missed:gelu e.toml:5",
    ];
    assert_eq!(ids(&config, Some("sub/b.onnx")), second);
    let rules = config.rules_for(Some("sub/b.onnx"));
    assert!(matches!(rules.gates[0].check, Check::Budget { limit: 5_000, .. }));
    assert_eq!(
        rules.settings.dims.into_iter().collect::<Vec<_>>(),
        [("batch".into(), 1), ("length".into(), 16)]
    );
    assert_eq!(rules.settings.target.as_deref(), Some("x86-64-v3"));
}

#[test]
fn denials_of_a_section_are_instead_of_all() {
    let text = "deny = [\"missed:attention\"]\n[model.m]\ndeny = [\"missed:gelu\", \"missed=gelu\"]\n";
    let config = Config::parse("e.toml", text).unwrap();
    assert_eq!(ids(&config, Some("m")), ["deny/missed:gelu e.toml:3"]);
    let config = Config::parse("e.toml", "deny = [\"missed:attention\"]\n[model.m]\ndeny = []\n").unwrap();
    assert_eq!(ids(&config, Some("m")), Vec::<String>::new());
}

#[test]
fn what_is_wrong_has_its_place_and_the_nearest_key() {
    for (text, said) in [
        ("[budgets]\n", "e.toml:1:2: the file has no `budgets`; the nearest is `budget`"),
        ("\n[budget]\nkernel = 1", "e.toml:3:1: [budget] has no `kernel`; the nearest is `kernels`"),
        ("[budget]\nsize = 1.5", "e.toml:2:1: `size` is bytes as a number, or with a unit"),
        ("[budget]\nsize = -1", "e.toml:2:1: `size` is bytes"),
        ("[budget]\nsize = \"2 M\"", "e.toml:2:1: `size` is bytes"),
        ("[budget]\nestimated-time = 3", "e.toml:2:1: `estimated-time` is a time with its unit"),
        ("[budget]\nkernels = \"6B\"", "e.toml:2:1: `kernels` is a whole number"),
        ("budget = 1", "e.toml:1:1: `budget` is a table: write [budget]"),
        (
            "expect = { atention = 1 }",
            "e.toml:1:12: `atention` is no operation of ir-spec/ops; the nearest is `attention`",
        ),
        ("expect = { attention = \"1\" }", "e.toml:1:12: `attention` is a whole number"),
        ("deny = \"missed:gelu\"", "e.toml:1:1: `deny` is a list"),
        (
            "deny = [\n  \"missed:gelu\",\n  \"missed:gellu\",\n]",
            "e.toml:3:3: nothing that could be missed is called `gellu`",
        ),
        ("tier = \"fast\"", "e.toml:1:1: `fast` is no tier"),
        ("denormals = \"zero\"", "e.toml:1:1: "),
        ("at_most = 1", "e.toml:1:1: the file has no `at_most`; the nearest is `at-most`"),
        ("at-most = { u0 = \"20*\" }", "e.toml:1:13: `20*` is no size: "),
        ("at-most = { größe = -1 }", "e.toml:1:15: "),
        (
            "at-most = { \"größe\" = 1, u0 = 1.5 }",
            "e.toml:1:26: `u0` is a whole number, 0 or more, or a text",
        ),
        ("shapes = { x = [1, 3] }", "e.toml:1:12: `x` is a text in quotes"),
        ("shapes = { x = \"1,2*n\" }", "e.toml:1:12: `2*n` is no dim"),
        ("target = 3", "e.toml:1:1: `target` is a text"),
        ("dims = { n = -1 }", "e.toml:1:10: `n` is a whole number"),
        ("[model.a.model.b]", "e.toml:1:10: [model.\"a\"] has no `model`; the nearest is"),
        (
            "[model.\"a.onnx\".budget]\nweight = 1",
            "e.toml:2:1: [budget] has no `weight`; the nearest is `weights`",
        ),
        ("[budget]\nsize = 1\nsize = 2", "e.toml:3:1: duplicate key"),
        ("a = ", "e.toml:1:5: "),
    ] {
        let error = Config::parse("e.toml", text).expect_err(text).message;
        assert!(error.starts_with(said), "{text:?}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn a_file_says_how_a_model_is_compiled() {
    let text = "shapes = { x = \"1,H\" }\nat-most = { u0 = \"20*seq\", u1 = 7 }\ndenormals = \"keep\"\ntarget = \"m.toml\"\n[model.a]\ntarget = \"x86-64-v3\"\nat-most.u1 = 9";
    let config = Config::parse("models/e.toml", text).unwrap();
    let said = |section| config.rules_for(section).settings.options();
    assert_eq!(
        said(None),
        "--shape x=1,H --at-most 'u0=20*seq' --at-most u1=7 --target models/m.toml --denormals keep"
    );
    assert_eq!(
        said(Some("a")),
        "--shape x=1,H --at-most 'u0=20*seq' --at-most u1=9 --target x86-64-v3 --denormals keep"
    );
}

#[test]
fn a_file_is_looked_for_beside_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let (model, file) = (dir.path().join("m.onnx"), dir.path().join("egret.toml"));
    std::fs::write(&model, "").unwrap();
    assert!(Config::find(&model, None).unwrap().is_none());
    let missing = dir.path().join("other.toml");
    assert!(Config::find(&model, Some(&missing)).is_err(), "a file that is named must be there");
    std::fs::write(&file, "dims = { n = 1 }\n[model.\"m.onnx\"]\ndims = { n = 2 }\n").unwrap();
    let found = Config::find(&model, None).unwrap().unwrap();
    assert_eq!((found.file, found.rules.settings.dims["n"]), (file.clone(), 2));
    std::fs::write(&missing, "[model.\"x.onnx\"]\n").unwrap();
    let error = Config::find(&model, Some(&missing)).unwrap_err().message;
    assert!(error.contains("other.toml:1:8: there is no ") && error.contains("x.onnx"), "{error}");
    // A link that leads nowhere.
    #[cfg(unix)]
    {
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink(dir.path().join("gone"), &file).unwrap();
        assert!(Config::find(&model, None).is_err());
    }
}
