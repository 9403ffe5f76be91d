//! `egret partition --simulate`: what it prints, and what is wrong with a file of links.

mod kit;

use kit::stages::{FAR, TOWERS, partition, with_copies, write};
use kit::{model, path, refused, temp, works};
use std::fs;

/// What a run prints.
fn printed(args: &[&str]) -> String {
    works(args)
}

#[test]
fn a_plan_is_simulated() {
    let dir = temp();
    let (plan, read) = partition(&dir, &model("simple_cnn"), 2);
    let links = |body: &str| write(&dir, "links.toml", body);
    let fast = links("[link]\nlatency = \"0 us\"\nbandwidth = \"unlimited\"\n");
    let simulate = ["partition", "--plan", &plan, "--simulate", &fast];
    let json = |args: &[&str]| -> serde_json::Value {
        serde_json::from_str(&printed(&[args, &["--format", "json"]].concat())).unwrap()
    };
    let two = json(&simulate);
    // The slower stage decides.
    let slow = read.stages.iter().map(|s| s.microseconds).fold(0.0, f64::max);
    let rate = two["samples_per_second"].as_f64().unwrap();
    assert!((rate * slow / 1e6 - 1.0).abs() < 1e-3, "{two}");
    assert_eq!(two["bottleneck"]["kind"], "computing");
    assert_eq!(two["stages"][0]["bytes_out"], read.cuts[0].bytes);
    assert_eq!(two["stages"][0]["bytes_in"], 28 * 28 * 4);
    let short = printed(&simulate);
    assert!(short.lines().count() < 10 && short.contains("throughput"), "{short}");
    assert!(printed(&[&simulate[..], &["-v"]].concat()).contains("worker 1 "));
    // Times that are measured are others than those of the plan.
    let measured = json(&[&simulate[..], &["--measure"]].concat());
    assert_eq!(measured["measured_with_threads"], 1);
    assert_ne!(measured["stages"], two["stages"]);
    // A model by itself, and what is written beside the prediction.
    let many =
        write(&dir, "many.toml", "workers = 1000\n[link]\nlatency = \"1 us\"\nbandwidth = \"1 GB/s\"\n");
    let alone = json(&["partition", &model("simple_cnn"), "--stages", "3", "--simulate", &many]);
    assert_eq!(alone["workers"].as_array().unwrap().len(), 1000);
    let (far, out) = (write(&dir, "far.egret", FAR), path(&dir, "far"));
    let said = ["partition", &far, "--stages", "2", "-o", &out, "--simulate", &fast, "--measure"];
    assert!(printed(&said).contains("measured with 1 thread"));
    assert!(fs::exists(path(&dir, "far/plan.toml")).unwrap());

    let wrong = links("[link]\nlatency = \"0 us\"\nbandwidth = \"fast\"\n");
    refused(&simulate, 1, &["links.toml:3: `fast`", "GB/s"]);
    let fresh = path(&dir, "fresh");
    let model = model("simple_cnn");
    refused(
        &["partition", &model, "--stages", "2", "-o", &fresh, "--simulate", &wrong],
        1,
        &["links.toml:3"],
    );
    assert!(!fs::exists(&fresh).unwrap(), "nothing is written");
    links("[link]\nlatency = \"0 us\"\nbandwidth = \"1 B/s\"\n");
    refused(&simulate, 1, &["links.toml", "longer than an hour"]);
    refused(&["partition", &model, "--stages", "2", "--simulate", &many, "--measure"], 1, &["--out-dir"]);
    refused(&["partition", "--plan", &plan], 1, &["--simulate"]);
    refused(&["partition", &model, "--stages", "2"], 1, &["--out-dir"]);
    let edited = fs::read_to_string(&plan).unwrap();
    let at = edited.find("microseconds = ").unwrap();
    fs::write(&plan, edited.replacen(&edited[at..at + 16], "microseconds = -1", 1)).unwrap();
    links("[link]\nlatency = \"0 us\"\nbandwidth = \"1 GB/s\"\n");
    refused(&simulate, 1, &["stage 0 takes -1"]);
}

#[test]
fn copies_and_steps_are_simulated() {
    let dir = temp();
    let links = write(&dir, "links.toml", "[link]\nlatency = \"0 us\"\nbandwidth = \"unlimited\"\n");
    let json = |args: &[&str]| -> serde_json::Value { serde_json::from_str(&printed(args)).unwrap() };
    // As many workers as copies, unless it is said, and as many times as fast.
    let model = model("simple_cnn");
    let cut = ["partition", &model, "--stages", "1", "--simulate", &links, "--format", "json"];
    let (one, two) = (json(&cut), json(&[&cut[..], &["--copies", "2"]].concat()));
    assert_eq!(two["groups"][0]["workers"], serde_json::json!([0, 1]));
    let rate = |v: &serde_json::Value| v["samples_per_second"].as_f64().unwrap();
    assert!((rate(&two) / rate(&one) - 2.0).abs() < 1e-6, "{two}");
    // A sample takes as long as the longer tower, and the head.
    let (plan, read) = partition(&dir, &write(&dir, "towers.egret", TOWERS), 3);
    let us: Vec<f64> = read.stages.iter().map(|s| s.microseconds).collect();
    let sample = (us[0].max(us[1]) + us[2]) * 1e3;
    let simulate = ["partition", "--plan", &plan, "--simulate", &links, "--format", "json"];
    let alone = json(&simulate)["nanoseconds_alone"].as_f64().unwrap();
    assert!((alone / sample - 1.0).abs() < 1e-3, "{alone} {sample}");
    with_copies(&plan, &[2, 3, 1]);
    assert_eq!(json(&simulate)["groups"][1]["workers"], serde_json::json!([2, 3, 4]));
    refused(&[&simulate[..], &["--copies", "2"]].concat(), 1, &["--copies", "--plan"]);
}
