//! Files of states: whole, cut, damaged, and of others.

use super::*;
use std::sync::Mutex;

/// Opened, with what was told.
fn open(path: &Path, key: u8) -> (Result<State>, Vec<String>) {
    let told = Mutex::new(vec![]);
    let tell = |text: &str| told.lock().expect("one thread").push(text.to_owned());
    let state = State::open(Some(&Resume::new(path, &tell)), || Ok([key; HASH]));
    (state, told.into_inner().expect("one thread"))
}

fn fill(path: &Path) {
    let state = open(path, 1).0.expect("a state");
    for (i, name) in ["one", "two", "three"].iter().enumerate() {
        let made = state.numbers(name, || Ok(vec![i as f64; i]));
        assert_eq!(made.expect("numbers"), vec![i as f64; i]);
    }
}

#[test]
fn records_are_there_again_and_go_when_all_is_done() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("state");
    fill(&path);
    let (state, told) = open(&path, 1);
    let state = state.expect("a state");
    assert!(told.is_empty() && state.names().len() == 3 && state.has("two") && !state.has("four"));
    let never = || Err(Error::internal("made again"));
    assert_eq!(state.numbers("three", never).expect("kept"), [2.0, 2.0]);
    // Another run may not have it meanwhile.
    let error = open(&path, 1).0.map(|_| ()).expect_err("refused").message;
    assert!(error.contains("has not ended"), "{error}");
    state.done().expect("removed");
    assert!(!path.exists());
    // Nothing found, nothing left.
    drop(open(&path, 1).0.expect("a state"));
    assert!(!path.exists());
}

#[test]
fn of_a_file_that_was_cut_anywhere_what_is_whole_is_taken() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("state");
    fill(&path);
    let whole = std::fs::read(&path).expect("a file");
    let mut seen = std::collections::BTreeSet::new();
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).expect("a file");
        let (state, told) = open(&path, 1);
        let state = state.expect("a state");
        let count = state.names().len();
        assert!(count < 3 && told.len() <= 1, "{told:?}");
        seen.insert(count);
        // What is added now is there later.
        state.numbers("more", || Ok(vec![5.0])).expect("numbers");
        drop(state);
        let (state, told) = open(&path, 1);
        let state = state.expect("a state");
        assert!(state.names().len() == count + 1 && state.has("more") && told.is_empty());
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn no_damaged_byte_is_taken_for_a_result() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("state");
    fill(&path);
    let whole = std::fs::read(&path).expect("a file");
    for at in MAGIC.len()..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x41;
        std::fs::write(&path, &bytes).expect("a file");
        let (state, told) = open(&path, 1);
        let state = state.expect("a state");
        assert!(state.names().len() < 3 && told.len() == 1, "{at}: {told:?}");
        for (i, name) in ["one", "two", "three"].iter().enumerate() {
            let made = state.numbers(name, || Ok(vec![i as f64; i])).expect("numbers");
            assert_eq!(made, vec![i as f64; i]);
        }
    }
}

#[test]
fn others_are_not_used() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("state");
    fill(&path);
    let (state, told) = open(&path, 2);
    assert!(state.expect("a state").names().is_empty());
    assert!(told[0].contains("of another model"), "{told:?}");
    std::fs::write(&path, "a file of someone").expect("a file");
    let error = open(&path, 1).0.map(|_| ()).expect_err("refused").message;
    assert!(error.contains("it is another file"), "{error}");
    assert_eq!(std::fs::read(&path).expect("a file"), b"a file of someone");
}
