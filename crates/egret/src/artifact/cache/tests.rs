//! The cache in one process: hits and misses, damage, what killed processes leave, the limit.

use super::super::place::LOCK;
use super::room::What;
use super::*;
use crate::artifact::{Emit, Request, WeightsPlace, compile, compile_cached};
use crate::options::Options;
use crate::source;
use egret_codegen::CodeCache;
use std::collections::BTreeMap;
use std::time::Duration;

const MODEL: &str = "../../fixtures/models/simple_cnn.onnx";

fn request(dir: &Path, out: &str) -> Request {
    Request {
        source: source::Request { model: dir.join("m.onnx"), ..source::Request::default() },
        out_dir: dir.join(out),
        options: Options { name: "m".into(), target: "x86-64-v2".into(), ..Options::default() },
        emit: vec![Emit::Lib, Emit::Rs],
        read: vec![],
        settings: vec![],
        weights: WeightsPlace::Embed,
        report: None,
        keep_times: false,
    }
}

/// A folder with a model and a cache.
fn begin(limit: u64) -> (tempfile::TempDir, Cache) {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(MODEL, dir.path().join("m.onnx")).unwrap();
    let cache = Cache::new(&dir.path().join("cache"), limit);
    (dir, cache)
}

/// The files of a folder but the depfile, which names it.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let all = list(dir).map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap()));
    all.filter(|(name, _)| name != "m.d").collect()
}

#[test]
fn the_cache_gives_what_a_compilation_makes() {
    let (dir, cache) = begin(1 << 30);
    let fresh = compile(&request(dir.path(), "fresh")).unwrap();
    for (out, cached) in [("a", false), ("b", true), ("b", true)] {
        let done = compile_cached(&request(dir.path(), out), &cache).unwrap();
        assert_eq!(done.cached, cached, "{out}");
        assert_eq!((done.kernels, &done.target, &done.notes), (fresh.kernels, &fresh.target, &fresh.notes));
        assert_eq!((done.arena_bytes, done.weights_bytes), (fresh.arena_bytes, fresh.weights_bytes));
        assert_eq!(done.free_dims, fresh.free_dims);
        assert_eq!(done.files.len(), fresh.files.len());
        assert!(contents(&dir.path().join(out)) == contents(&dir.path().join("fresh")), "{out}");
        let depfile = fs::read_to_string(dir.path().join(out).join("m.d")).unwrap();
        let there = dir.path().join(out).display().to_string();
        let expected = fs::read_to_string(dir.path().join("fresh/m.d")).unwrap();
        assert_eq!(depfile, expected.replace(&dir.path().join("fresh").display().to_string(), &there));
    }
    // What a user does to an output does not get into the cache.
    fs::write(dir.path().join("b/m.rs"), "mine").unwrap();
    assert!(compile_cached(&request(dir.path(), "c"), &cache).unwrap().cached);
    assert!(contents(&dir.path().join("c")) == contents(&dir.path().join("fresh")));
}

#[test]
fn whatever_decides_the_files_is_in_the_key() {
    let (dir, _) = begin(0);
    let rules = dir.path().join("x.rules");
    fs::write(&rules, "a").unwrap();
    let base = || Request { read: vec![rules.clone()], ..request(dir.path(), "out") };
    let of = |request: &Request| key::of(request).unwrap().key;
    let first = of(&base());
    let same = [
        Request { out_dir: "elsewhere".into(), ..base() },
        Request { options: Options { threads: 7, ..base().options }, ..base() },
        // It is in the options what they said.
        Request { settings: vec!["egret.toml".into()], ..base() },
        Request { emit: vec![Emit::Rs, Emit::Lib, Emit::Rs], ..base() },
    ];
    assert!(same.iter().all(|r| of(r) == first));
    let with = |change: &dyn Fn(&mut Request)| {
        let mut request = base();
        change(&mut request);
        of(&request)
    };
    let mut keys = vec![
        first,
        with(&|r| r.options.name = "n".into()),
        with(&|r| r.options.target = "x86-64-v3".into()),
        with(&|r| r.options.passes = Some(vec![])),
        with(&|r| r.options.tier = crate::Tier::Exact),
        with(&|r| r.options.budget = 0.5),
        with(&|r| r.options.denormals = Some(crate::Denormals::Keep)),
        with(&|r| r.options.wide = false),
        with(&|r| r.options.without_rules(&[crate::rule_names()[0].clone()]).unwrap()),
        with(&|r| r.source.dims = [("batch".to_owned(), 2)].into()),
        with(&|r| {
            r.source.shapes = [("image".to_owned(), crate::shapes::read("2,1,28,28").unwrap())].into()
        }),
        with(&|r| {
            let (name, given) = crate::inputs::Given::named("image=3").unwrap();
            r.source.bind = vec![(name, given)];
        }),
        with(&|r| r.weights = WeightsPlace::File),
        with(&|r| r.emit = vec![Emit::Lib]),
        with(&|r| r.emit = vec![Emit::Lib, Emit::So]),
        with(&|r| r.read = vec![]),
    ];
    fs::write(&rules, "b").unwrap();
    keys.push(of(&base()));
    fs::write(&rules, "a").unwrap();
    assert_eq!(of(&base()), first);
    let model = dir.path().join("m.onnx");
    let bytes = fs::read(&model).unwrap();
    // A field of documentation, then one byte of it.
    for letter in [b'x', b'y'] {
        fs::write(&model, [&bytes[..], &[0x32, 1, letter]].concat()).unwrap();
        keys.push(of(&base()));
    }
    let number = keys.len();
    keys.sort_by_key(ToString::to_string);
    keys.dedup();
    assert_eq!(keys.len(), number);
}

/// The only compilation of a cache.
fn entry(cache: &Cache) -> PathBuf {
    let mut entries = cache.paths(What::Compilation);
    assert_eq!(entries.len(), 1);
    entries.remove(0)
}

/// Change the lowest bit of a weight of the model.
fn change_a_weight(dir: &Path) {
    let path = dir.join("m.onnx");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2 / 4 * 4;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn of_a_changed_weight_all_machine_code_is_there() {
    let (dir, cache) = begin(1 << 30);
    let first = compile_cached(&request(dir.path(), "out"), &cache).unwrap();
    let functions = cache.paths(What::Function).len();
    assert!(
        first.reused == (0, first.reused.1) && first.reused.1 >= functions && functions > 5,
        "{:?}",
        first.reused
    );
    let before = contents(&dir.path().join("out"));
    change_a_weight(dir.path());
    let again = compile_cached(&request(dir.path(), "out"), &cache).unwrap();
    assert_eq!((again.cached, again.reused), (false, (first.reused.1, first.reused.1)));
    compile(&request(dir.path(), "fresh")).unwrap();
    let after = contents(&dir.path().join("out"));
    assert!(after == contents(&dir.path().join("fresh")) && after != before);
    assert_eq!(cache.kept().functions, functions);
    // Code for another target is other code, and so is that of another compiler.
    let other = |name: &str, change: fn(&mut Options)| {
        let mut request = request(dir.path(), name);
        change(&mut request.options);
        let done = compile_cached(&request, &cache).unwrap();
        assert_eq!(done.reused.0, 0, "{name}");
        let made = contents(&dir.path().join(name));
        compile(&Request { out_dir: dir.path().join("fresh"), ..request }).unwrap();
        assert!(made == contents(&dir.path().join("fresh")), "{name}");
    };
    other("v4", |o| o.target = "x86-64-v4".into());
    other("windows", |o| o.target = "x86-64-v2-windows".into());
    other("aarch64", |o| o.target = "aarch64".into());
    // Of two builds each has its own.
    let [one, two] = [7, 8].map(|build| Functions::of(&cache, [build; 32]));
    one.insert(&[1; 32], b"code");
    assert_eq!((one.get(&[1; 32]).as_deref(), two.get(&[1; 32])), (Some(&b"code"[..]), None));
}

#[test]
fn damaged_machine_code_is_made_anew() {
    let (dir, cache) = begin(1 << 30);
    compile_cached(&request(dir.path(), "out"), &cache).unwrap();
    change_a_weight(dir.path());
    compile(&request(dir.path(), "fresh")).unwrap();
    let wanted = contents(&dir.path().join("fresh"));
    // The code of another function, which is whole.
    let other = fs::read(&cache.paths(What::Function)[0]).unwrap();
    for path in &cache.paths(What::Function)[1..] {
        fs::write(path, &other).unwrap();
    }
    for path in cache.paths(What::Compilation) {
        fs::remove_dir_all(path).unwrap();
    }
    assert!(compile_cached(&request(dir.path(), "out"), &cache).unwrap().reused.0 <= 1);
    assert!(contents(&dir.path().join("out")) == wanted);
    let damages: [fn(&mut Vec<u8>); 4] =
        [|b| *b.last_mut().unwrap() ^= 1, |b| b.truncate(b.len() / 2), Vec::clear, |b| b[0] ^= 1];
    for (i, damage) in damages.iter().enumerate() {
        for path in cache.paths(What::Function) {
            let mut bytes = fs::read(&path).unwrap();
            damage(&mut bytes);
            fs::write(&path, bytes).unwrap();
        }
        for path in cache.paths(What::Compilation) {
            fs::remove_dir_all(path).unwrap();
        }
        let done = compile_cached(&request(dir.path(), "out"), &cache).unwrap();
        assert_eq!(done.reused.0, 0, "damage {i}");
        assert!(contents(&dir.path().join("out")) == wanted, "damage {i}");
    }
}

#[test]
fn a_damaged_entry_is_made_anew() {
    let (dir, cache) = begin(1 << 30);
    compile_cached(&request(dir.path(), "out"), &cache).unwrap();
    let wanted = contents(&dir.path().join("out"));
    let files: Vec<String> = list(&entry(&cache)).map(|e| e.file_name().into_string().unwrap()).collect();
    assert!(files.len() > 3, "{files:?}");
    for name in &files {
        for damage in 0..3 {
            let path = entry(&cache).join(name);
            let mut bytes = fs::read(&path).unwrap();
            match damage {
                0 => *bytes.last_mut().unwrap() ^= 1,
                1 => bytes.truncate(bytes.len() / 2),
                _ => bytes.clear(),
            }
            if damage == 2 {
                fs::remove_file(&path).unwrap();
            } else {
                fs::write(&path, bytes).unwrap();
            }
            assert!(
                !compile_cached(&request(dir.path(), "out"), &cache).unwrap().cached,
                "{name} {damage}"
            );
            assert!(compile_cached(&request(dir.path(), "out"), &cache).unwrap().cached, "{name} {damage}");
            assert!(contents(&dir.path().join("out")) == wanted, "{name} {damage}");
        }
    }
}

#[test]
fn what_a_killed_process_left_is_never_taken_and_goes() {
    let (dir, cache) = begin(1 << 30);
    let key = key::of(&request(dir.path(), "out")).unwrap().key;
    // Killed while it wrote: a temporary folder with half a file, and the lock of the key.
    let half = cache.dir.join(".egret-killed");
    fs::create_dir_all(half.join(FILES)).unwrap();
    fs::write(half.join(LOCK), "").unwrap();
    fs::write(half.join(FILES).join("m.rs"), "half").unwrap();
    let lock = cache.entry(&key).with_extension("lock");
    fs::create_dir_all(lock.parent().unwrap()).unwrap();
    fs::write(&lock, "").unwrap();
    // An entry without its list, as no process leaves it.
    fs::create_dir_all(cache.entry(&key)).unwrap();
    fs::write(cache.entry(&key).join("m.rs"), "half").unwrap();
    assert!(!compile_cached(&request(dir.path(), "out"), &cache).unwrap().cached);
    assert!(compile_cached(&request(dir.path(), "out"), &cache).unwrap().cached);
    assert!(!half.exists() && !lock.exists());
    // A lock that another process holds stays.
    let held = cache.lock(&key).unwrap();
    cache.prune(cache.limit).unwrap();
    assert!(lock.exists());
    drop(held);
    assert!(!lock.exists());
}

#[test]
fn the_entries_that_were_used_least_recently_go() {
    let (dir, cache) = begin(1 << 30);
    let named = |name: &str| {
        let mut request = request(dir.path(), name);
        request.options.name = name.into();
        request
    };
    for (i, name) in ["a", "b", "c"].iter().enumerate() {
        compile_cached(&named(name), &cache).unwrap();
        // Clocks of file systems are coarse.
        let key = key::of(&named(name)).unwrap().key;
        let list = File::options().write(true).open(cache.entry(&key).join(LIST)).unwrap();
        list.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(i as u64)).unwrap();
    }
    assert!(compile_cached(&named("a"), &cache).unwrap().cached);
    let all = cache.kept();
    assert_eq!(all.entries, 3);
    let small = Cache { limit: all.bytes, ..cache.clone() };
    // The fourth takes the place of the one that was not used since.
    assert!(!compile_cached(&named("d"), &small).unwrap().cached);
    assert_eq!(small.kept().entries, 3);
    for (name, cached) in [("a", true), ("c", true), ("d", true), ("b", false)] {
        assert_eq!(compile_cached(&named(name), &cache).unwrap().cached, cached, "{name}");
    }
    // One that is larger than the whole is not kept, and said.
    let tiny = Cache::new(&dir.path().join("tiny"), 1000);
    let done = compile_cached(&named("a"), &tiny).unwrap();
    assert!(done.notes.last().unwrap().contains("EGRET_CACHE_SIZE"), "{:?}", done.notes);
    assert_eq!(tiny.kept(), Kept::default());
    let pruned = cache.prune(0).unwrap();
    assert_eq!((pruned.removed.entries, pruned.left), (4, Kept::default()));
}

/// A cache of many functions is not gone through by every compilation.
#[test]
fn functions_are_counted_from_time_to_time() {
    let (dir, cache) = begin(1 << 30);
    compile_cached(&request(dir.path(), "out"), &cache).unwrap();
    let counted = cache.dir.join("code/counted");
    let said = fs::read_to_string(&counted).unwrap();
    assert_eq!(said.parse::<u64>().unwrap(), 4096 * cache.kept().functions as u64);
    // As if there had been so many: no compilation has room, and no function goes.
    fs::write(&counted, (1u64 << 30).to_string()).unwrap();
    let functions = cache.kept().functions;
    cache.keep_to_limit().unwrap();
    assert_eq!((cache.kept().entries, cache.kept().functions), (0, functions));
    // Long ago: they are counted anew, and go if they must.
    let long_ago = SystemTime::now() - Duration::from_secs(7200);
    File::options().write(true).open(&counted).unwrap().set_modified(long_ago).unwrap();
    let small = Cache { limit: 3 * 4096, ..cache.clone() };
    small.keep_to_limit().unwrap();
    assert_eq!(small.kept().functions, 3);
    assert_eq!(cache.prune(0).unwrap().left, Kept::default());
}

#[test]
#[cfg(unix)]
fn a_cache_that_is_only_read_gives_its_functions() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, cache) = begin(1 << 30);
    compile_cached(&request(dir.path(), "out"), &cache).unwrap();
    change_a_weight(dir.path());
    // In the way of the lock, whoever runs this.
    let key = key::of(&request(dir.path(), "out")).unwrap().key;
    let folder = cache.entry(&key).with_file_name("");
    if !folder.exists() {
        fs::write(cache.entry(&key).parent().unwrap(), "").unwrap();
    } else {
        fs::create_dir_all(cache.entry(&key).with_extension("lock")).unwrap();
    }
    fs::set_permissions(&cache.dir, fs::Permissions::from_mode(0o555)).unwrap();
    let done = compile_cached(&request(dir.path(), "out"), &cache).unwrap();
    fs::set_permissions(&cache.dir, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(!done.cached && done.reused.0 == done.reused.1 && done.reused.1 > 5, "{:?}", done.reused);
    assert!(done.notes.iter().any(|n| n.contains("not kept in the cache")), "{:?}", done.notes);
}

#[test]
fn a_folder_that_is_none_is_a_note() {
    let (dir, _) = begin(0);
    fs::write(dir.path().join("file"), "").unwrap();
    let cache = Cache::new(&dir.path().join("file/cache"), 1 << 30);
    let done = compile_cached(&request(dir.path(), "out"), &cache).unwrap();
    assert!(!done.cached && dir.path().join("out/libm.a").exists());
    let said: Vec<_> = done.notes.iter().filter(|n| n.contains("not kept in the cache")).collect();
    assert!(said.len() == 1 && said[0].contains("file/cache"), "{:?}", done.notes);
}

#[test]
fn sizes_are_read() {
    let of = ["0", "17", "3k", "500M", "2G", " 2 G ", "", "G", "-1", "2GB", "99999999999T"].map(size_of);
    let wanted = [Some(0), Some(17), Some(3072), Some(500 << 20), Some(2 << 30), Some(2 << 30)];
    assert_eq!(of[..6], wanted);
    assert_eq!(of[6..], [None; 5]);
}
