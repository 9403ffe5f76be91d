//! `compile --emit sbom`: the bill of materials says what the model, its weights, its licence and the files are.

mod kit;

use kit::{model, onnx_beside, path, temp, works};
use serde_json::Value;

fn compiled(m: &str, to: &str) -> String {
    works(&["compile", m, "--out-dir", to, "--target", "x86-64-v3", "--emit", "lib,sbom", "--name", "net"]);
    std::fs::read_to_string(std::path::Path::new(to).join("net.cdx.json")).expect("a bill")
}

/// What CycloneDX 1.6 requires of the properties that are written: `bomFormat`, `specVersion`, `type` and `name` of components,
/// hashes of 64 digits, unique references, a serial number that is a UUID.
fn check(bill: &Value) {
    assert_eq!((&bill["bomFormat"], &bill["specVersion"]), (&"CycloneDX".into(), &"1.6".into()));
    let serial = bill["serialNumber"].as_str().and_then(|s| s.strip_prefix("urn:uuid:")).expect("a UUID");
    let parts: Vec<usize> = serial.split('-').map(str::len).collect();
    assert_eq!(parts, [8, 4, 4, 4, 12]);
    assert!(serial.chars().all(|c| c == '-' || matches!(c, '0'..='9' | 'a'..='f')), "{serial}");
    let list = |v: &Value| v.as_array().cloned().expect("a list");
    let artifact = &bill["metadata"]["component"];
    let (all, files) = (list(&bill["components"]), list(&artifact["components"]));
    let mut refs = vec!["artifact".to_owned()];
    for c in all.iter().chain(&files) {
        assert!(["machine-learning-model", "data", "file"].map(Value::from).contains(&c["type"]), "{c}");
        assert!(c["name"].is_string());
        for hash in list(&c["hashes"]) {
            assert_eq!(hash["alg"], "BLAKE3");
            assert_eq!(hash["content"].as_str().map(str::len), Some(64));
        }
        refs.push(c["bom-ref"].as_str().expect("a reference").to_owned());
    }
    let known = refs.len();
    refs.sort();
    refs.dedup();
    assert_eq!(refs.len(), known, "references are unique");
    let needs = &bill["dependencies"][0];
    assert_eq!(needs["ref"], "artifact");
    assert!(
        list(&needs["dependsOn"])
            .iter()
            .all(|r| refs.contains(&r.as_str().expect("a reference").to_owned()))
    );
}

#[test]
fn a_bill_agrees_with_the_manifest_and_is_the_same_again() {
    let dir = temp();
    let first = compiled(&model("simple_cnn"), &path(&dir, "a"));
    assert_eq!(first, compiled(&model("simple_cnn"), &path(&dir, "b")));
    let bill: Value = serde_json::from_str(&first).expect("JSON");
    check(&bill);
    let manifest = std::fs::read_to_string(dir.path().join("a/net.manifest.json")).expect("a manifest");
    let manifest: Value = serde_json::from_str(&manifest).expect("JSON");
    assert_eq!(bill["components"][0]["hashes"][0]["content"], manifest["model"]["blake3"]);
    assert_eq!(bill["components"][1]["hashes"][0]["content"], manifest["weights"]["blake3"]);
    for file in bill["metadata"]["component"]["components"].as_array().expect("files") {
        let name = file["name"].as_str().expect("a name");
        assert_eq!(file["hashes"][0]["content"], manifest["files"][name]["blake3"], "{name}");
    }
    assert!(manifest["files"]["net.cdx.json"].is_object(), "the manifest has the bill");
    assert!(bill["components"][0].get("licenses").is_none(), "no licence is made up");
}

#[test]
fn licences_and_external_data_are_in_the_bill() {
    let dir = temp();
    let m = path(&dir, "m.onnx");
    let mut bytes = onnx_beside("w.bin", 2);
    // ModelProto.metadata_props: { key: "License", value: "Apache-2.0" }.
    let entry = [&b"\x0a\x07License\x12\x0aApache-2.0"[..]].concat();
    bytes.extend([0x72, entry.len() as u8]);
    bytes.extend(&entry);
    std::fs::write(&m, bytes).expect("written");
    std::fs::write(dir.path().join("w.bin"), [0; 8]).expect("written");
    let before = compiled(&m, &path(&dir, "o"));
    let bill: Value = serde_json::from_str(&before).expect("JSON");
    check(&bill);
    assert_eq!(bill["components"][0]["licenses"][0]["license"]["name"], "Apache-2.0");
    assert_eq!(bill["components"][1]["name"], "w.bin");
    std::fs::write(dir.path().join("w.bin"), [1; 8]).expect("written");
    let after: Value = serde_json::from_str(&compiled(&m, &path(&dir, "o"))).expect("JSON");
    assert_ne!(bill["components"][1]["hashes"], after["components"][1]["hashes"]);
    assert_ne!(bill["serialNumber"], after["serialNumber"]);
}
