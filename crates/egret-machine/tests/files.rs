//! Files of machines: those of Egret, and broken ones.

use egret_machine::Machine;

/// Beyond the check that reading does.
#[test]
fn the_files_of_egret_are_read() {
    for m in Machine::targets() {
        assert_eq!(Machine::of(&m.name), Some(m));
        assert_eq!((&m.isa, m.costs.lanes), (&m.name, m.lanes() as u64));
    }
    assert!(Machine::of("z80").is_none());
    assert!(Machine::families().iter().any(|m| m.name == "granite-rapids"));
    assert!(Machine::families().iter().any(|m| m.name == "zen-4"));
    for m in Machine::families() {
        let target = Machine::of(&m.isa).expect("a target");
        assert_eq!(
            (m.vector_bytes, m.registers, &m.costs),
            (target.vector_bytes, target.registers, &target.costs)
        );
    }
}

/// What two files say of three levels is told apart from what they have of their bases.
#[test]
fn a_target_has_what_its_base_has() {
    let [v4, vnni, amx] =
        ["x86-64-v4", "x86-64-v4-vnni", "x86-64-v4-amx"].map(|t| Machine::of(t).unwrap().clone());
    let named = |m: &Machine, name: &str| Machine { name: name.into(), isa: name.into(), ..m.clone() };
    let mut dots = named(&v4, "x86-64-v4-vnni");
    (dots.costs.byte_macs, dots.costs.sparse_quad_price) = (200, 13);
    assert_eq!(vnni, dots);
    let mut tiles = Machine {
        tile_registers: 8,
        byte_tiles: vec![(32, 32)],
        half_vectors: 0,
        ..named(&vnni, "x86-64-v4-amx")
    };
    tiles.costs.sparse_quad_price = 56;
    assert_eq!(amx, tiles);
}

#[test]
fn a_file_changes_what_it_names() {
    let text =
        "isa = \"x86-64-v3\"\n[contractions]\ntiles = [[4, 24], [12, 8]]\n[caches]\nl2_bytes = 0x10_0000\n";
    let m = Machine::parse("mine", "mine.toml", text).unwrap();
    let target = Machine::of("x86-64-v3").unwrap();
    let tiles = vec![(4, 24), (12, 8)];
    assert_eq!(m, Machine { name: "mine".into(), tiles, l2_bytes: 1 << 20, ..target.clone() });
    assert_eq!(Machine::parse("mine", "mine.toml", &m.to_toml()), Ok(m));
    let amx = Machine::parse("mine", "", "isa = 'x86-64-v4-amx'").unwrap();
    assert!(!amx.byte_tiles.is_empty());
    assert_eq!(Machine::parse("mine", "mine.toml", &amx.to_toml()), Ok(amx));
    assert_eq!(Machine::parse("mine", "", "isa = 'x86-64-v3'").unwrap().tiles, target.tiles);
}

#[test]
fn broken_files_are_refused_in_one_line_with_place_and_key() {
    let (v3, amx) = ("isa = \"x86-64-v3\"\n", "isa = \"x86-64-v4-amx\"\n");
    for (text, line, words) in [
        ("isa = \n", 1, vec!["value"]),
        ("", 1, vec!["no `isa`", "x86-64-v4-vnni"]),
        ("# z\nisa = \"z80\"", 2, vec!["`isa`", "aarch64"]),
        ("isa = 4", 1, vec!["`isa`"]),
        (&format!("{v3}\n[tile]\nx = 1"), 3, vec!["`tile`"]),
        (&format!("{v3}name = 3"), 2, vec!["`name`"]),
        (&format!("{v3}caches = 3"), 2, vec!["[caches]"]),
        (&format!("{v3}[vectors]\nbytes = 64"), 2, vec!["[vectors]", "contractions, caches"]),
        // What zeros cost decides about graphs, too, which no machine's file changes.
        (
            &format!("{v3}[nonzeros]\nprice = 30"),
            2,
            vec!["[nonzeros] is the target's", "contractions, caches"],
        ),
        (&format!("{v3}[contractions]\nsparse_price = 30"), 3, vec!["`sparse_price`", "tiles"]),
        (
            &format!("{v3}[caches]\nl1_bytes = 32768\nl3_bytes = 1"),
            4,
            vec!["`l3_bytes`", "l1_bytes, l2_bytes, line_bytes"],
        ),
        (&format!("{v3}[caches]\nl1_bytes = 'big'"), 3, vec!["`l1_bytes`", "from 1024"]),
        (&format!("{v3}[caches]\nl1_bytes = 99999999999999999999"), 3, vec!["`l1_bytes`"]),
        (&format!("{v3}[caches]\nl1_bytes = -1"), 3, vec!["`l1_bytes`"]),
        (&format!("{v3}[caches]\nl1_bytes = 1000000000"), 3, vec!["`l1_bytes`", "`l2_bytes`"]),
        (&format!("{v3}[contractions]\nsums = 0"), 3, vec!["`sums`"]),
        (&format!("{v3}[contractions]\nsums = 10\nsums = 10"), 4, vec!["duplicate"]),
        (&format!("{v3}[contractions]\ntiles = 8"), 3, vec!["`tiles`", "pairs"]),
        (&format!("{v3}[contractions]\ntiles = []"), 3, vec!["`tiles`"]),
        (&format!("{v3}[contractions]\ntiles = [[6, 16, 2]]"), 3, vec!["`tiles`"]),
        (&format!("{v3}[contractions]\ntiles = [[0, 16]]"), 3, vec!["`tiles`"]),
        (&format!("{v3}[contractions]\nbyte_tiles = [[6, 12]]"), 3, vec!["`byte_tiles`", "8 floats"]),
        (&format!("{v3}[contractions]\nbyte_tiles = [[14, 32]]"), 3, vec!["`byte_tiles`", "16 registers"]),
        (&format!("{amx}[contractions]\nbyte_tiles = [[16, 24]]"), 3, vec!["`byte_tiles`", "16 sums"]),
        (
            &format!("{amx}[contractions]\nbyte_tiles = [[33, 32]]"),
            3,
            vec!["[33, 32]", "11 tile registers", "3 x 2", "8"],
        ),
        (
            &format!("{amx}[contractions]\nbyte_tiles = [[1024, 1024]]"),
            3,
            vec!["[1024, 1024]", "tile registers"],
        ),
        (&format!("{v3}[caches]\nline_bytes = 96"), 3, vec!["`line_bytes`", "not 96"]),
        (&format!("{v3}[vectors]\ntile_registers = 8"), 2, vec!["[vectors]"]),
        ("base = \"x86-64-v3\"", 1, vec!["no `isa`"]),
        (&format!("{v3}base = \"x86-64-v3\""), 2, vec!["`base`"]),
        (&format!("{v3}[contractions]\nbyte_tiles = 6"), 3, vec!["`byte_tiles`", "pairs"]),
        (&format!("{v3}[contractions]\ntiles = [[6, 12]]"), 3, vec!["`tiles`", "[6, 12]", "8 floats"]),
        (&format!("{v3}[contractions]\ntiles = [[6, 16]]"), 3, vec!["`tiles`", "[rows, 8]"]),
        (
            &format!("{v3}[contractions]\ntiles = [[12, 8], [14, 32]]"),
            3,
            vec!["[14, 32]", "60", "16 registers"],
        ),
        (&format!("{v3}[contractions]\ntiles = [[1024, 1024]]"), 3, vec!["[1024, 1024]", "registers"]),
    ] {
        let e = Machine::parse("mine", "mine.toml", text).expect_err(text);
        let told = e.to_string();
        assert!(told.starts_with(&format!("mine.toml:{line}: ")) && !told.contains('\n'), "{text}: {told}");
        assert!(words.iter().all(|w| told.contains(w)), "{text}: {told}");
    }
}

#[test]
fn few_sums_are_kept_in_several_sets() {
    const CHOICES: [usize; 3] = [1, 2, 4];
    let sets = |target: &str, rows, cols| Machine::of(target).unwrap().sets(rows, cols, &CHOICES);
    assert_eq!(["x86-64-v2", "aarch64"].map(|t| sets(t, 1, 4)), [1, 1]);
    // Fourteen rows of two vectors are enough; one vector of one row never is.
    assert_eq!([sets("x86-64-v4", 14, 32), sets("x86-64-v4", 1, 16), sets("x86-64-v4", 4, 32)], [1, 4, 2]);
    // Ten sums in two sets and their row leave AVX2 no register for a mask.
    assert_eq!([sets("x86-64-v3", 3, 16), sets("x86-64-v3", 1, 8), sets("x86-64-v3", 6, 16)], [2, 4, 1]);
    assert_eq!([sets("x86-64-v3", 3, 15), sets("x86-64-v3", 1, 60)], [2, 1]);
}
