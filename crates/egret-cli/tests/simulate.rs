//! `egret partition --simulate`: what it prints, and what is wrong with a file of links.

mod kit;

use kit::stages::{FAR, partition, write};
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
