//! Pages are the same twice, load nothing, stay short, and nothing in a model breaks out of its place.

use super::*;
use crate::attention::{Layer, rollout};
use crate::explanation::{Completeness, Curve, Curves, Explanation};
use crate::map::Map;
use crate::method::{Choices, Method};
use crate::target::Target;
use egret::ir::{DType, Tensor};
use egret::source::{Prepared, Request};

const HOSTILE: &str =
    "\"'></td><script>alert(1)</script><!--BODY--><style>*{}</style><img src=x onerror=y>&amp;";

fn map(name: &str, dtype: DType, shape: &[usize]) -> Map {
    let size: usize = shape.iter().product();
    let values = (0..size).map(|i| (i % 7) as f64 - 3.0).collect();
    let own = (0..size).map(|i| (i % 5) as f64).collect();
    Map { name: name.into(), shape: shape.to_vec(), values, input: Some((dtype, shape.to_vec(), own)) }
}

fn explained(name: &str, maps: Vec<Map>) -> Explanation {
    let curve = Curve {
        points: vec![(0.0, 1.0), (1.0, 0.0)],
        area: 0.5,
        random: vec![0.5],
        orders: vec![vec![1.0, 0.0]],
    };
    let target = Target {
        value: name.into(),
        index: vec![0, 4],
        less: None,
        score: 2.5,
        largest_of: Some((10, Some((name.into(), 1.5)))),
    };
    Explanation {
        completeness: Some(Completeness { sum: 1.0, baseline: 0.5, difference: 2.0 }),
        curves: Some(Curves { deletion: curve.clone(), insertion: curve, note: name.into() }),
        notes: vec![name.into()],
        ..Explanation::new(target, maps)
    }
}

fn about(title: &str) -> About {
    About { title: title.into(), command: format!("egret attribute '{HOSTILE}'") }
}

fn method(name: &str) -> Method {
    Method::new(name, &Choices::default()).expect("a method")
}

/// The tags of a page, those that begin and those that end.
fn tags(page: &str, name: &str) -> [usize; 2] {
    let begins = format!("<{name}");
    let begun = page
        .match_indices(&begins)
        .filter(|(at, _)| !page[at + begins.len()..].starts_with(|c: char| c.is_ascii_alphanumeric()));
    [begun.count(), page.matches(&format!("</{name}>")).count()]
}

#[track_caller]
fn is_sound(page: &str) {
    for name in [
        "table", "tr", "td", "section", "svg", "text", "div", "span", "pre", "p", "b", "figure", "dl",
        "dd", "i", "style",
    ] {
        let [begin, end] = tags(page, name);
        assert_eq!(begin, end, "{name}");
    }
    assert_eq!(tags(page, "script"), [2, 2]);
    assert!(page.contains("default-src 'none'; img-src data:;"));
    // Base64 may spell anything.
    let plain: String = page
        .split("data:image/png;base64,")
        .enumerate()
        .map(|(i, part)| if i == 0 { part } else { part.split_once('"').map_or("", |(_, rest)| rest) })
        .collect();
    for part in
        ["http:", "https:", "href=", "@import", "url(", "fetch(", "<img src=x", "<!--", "NaN", "'></td><"]
    {
        assert!(!plain.contains(part), "the page has `{part}`");
    }
    let pictures = page.matches("src=\"").count();
    assert_eq!(pictures, page.matches("src=\"data:image/png;base64,").count());
}

#[test]
fn attributions_of_every_kind_of_input_keep_their_place() {
    let maps = vec![
        map(HOSTILE, DType::F32, &[1, 3, 6, 5]),
        map("tokens", DType::I64, &[1, 9]),
        map("series", DType::F32, &[1, 2, 900]),
        map("table", DType::F32, &[40, 50]),
        map("scalar", DType::F32, &[]),
    ];
    let list: Vec<(Method, Explanation)> =
        ["saliency", "occlusion"].map(|m| (method(m), explained(HOSTILE, maps.clone()))).into();
    let page = attributions(&about(HOSTILE), &list).expect("a page");
    is_sound(&page);
    assert_eq!(page.matches("data-method>").count(), 2);
    assert_eq!(page.matches("class=\"cell ").count(), 2 * (9 + 1), "tokens and the scalar");
    assert_eq!(page.matches("class=\"stack strip\"").count(), 2 * 2, "a strip for each row of the series");
    assert!(
        page.contains("series: drawn as 450 columns, each the mean of 2"),
        "the page says what is smaller"
    );
    assert_eq!(page.matches("class=\"band\"").count(), 4);
    assert!(page.matches("&lt;script&gt;alert(1)").count() >= 10);
    assert!(page == attributions(&about(HOSTILE), &list).expect("a page"));
}

#[test]
fn a_page_of_many_large_maps_is_bounded_and_says_so() {
    // Noise does not get smaller.
    let mut state = 1u64;
    let mut noise = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f64
    };
    let mut large = map("x", DType::F32, &[1, 1, 48, 48]);
    large.values.iter_mut().for_each(|v| *v = noise());
    let list: Vec<(Method, Explanation)> =
        (0..4).map(|_| (method("saliency"), explained("y", vec![large.clone()]))).collect();
    let page = attributions::within(room::Room::of(6_000), &about("m"), &list).expect("a page");
    assert!(page.len() < 6_000 + (1 << 15), "{} bytes", page.len());
    assert!(page.contains(" maps: the pictures of a page have at most"), "nothing is left out");
    is_sound(&page);
}

/// A model of one input.
fn prepared(model: &str) -> Prepared {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("model.egret");
    std::fs::write(&file, model).expect("a file");
    Request { model: file, random: Some(1), ..Request::default() }.prepare().expect("a model")
}

fn seen_data(page: &str) -> serde_json::Value {
    let data = page.split("id=\"data\">").nth(1).and_then(|s| s.split("</script>").next()).expect("data");
    serde_json::from_str(data).expect("JSON")
}

#[test]
fn attention_is_there_by_layer_and_head_and_over_its_image() {
    let model = prepared("graph @g(%0 \"image\": f32[1, 1, 16, 16]) -> (%1 \"y\") {\n  %1 = neg(%0)\n}");
    let layer = |name: &str| Layer {
        name: name.into(),
        fused: true,
        wide: false,
        shape: vec![1, 2, 5, 5],
        shares: vec![0.2; 50],
    };
    let layers = [layer(HOSTILE), layer("b")];
    let rolled = rollout(&layers).expect("a rollout");
    let seen = Seen { model: &model, layers: &layers, rollout: Some(&rolled), weighted: None };
    let page = attention(&about("m"), &seen).expect("a page");
    is_sound(
        &page
            .replace("<img id=", "<i id=")
            .replace("class=\"under\"><canvas", "class=\"under\"></i><canvas"),
    );
    let data = seen_data(&page);
    let names: Vec<&str> =
        data["groups"].as_array().expect("groups").iter().filter_map(|g| g["kind"].as_str()).collect();
    assert_eq!(names, ["rollout", "attention", "attention"]);
    let heads = &data["groups"][1]["heads"];
    assert_eq!(heads.as_array().map(Vec::len), Some(3), "the mean and both heads");
    assert_eq!([&heads[1]["rows"], &heads[1]["columns"]], [5, 5]);
    assert_eq!((data["image"]["extra"].as_u64(), data["image"]["across"].as_u64()), (Some(1), Some(2)));
    assert_eq!(page.matches("<button type=\"button\" data-kind=\"attention\"").count(), 4);
    assert!(page == attention(&about("m"), &seen).expect("a page"));
    // Tokens have their ids; maps that are too large are drawn smaller.
    let ids = prepared("graph @g(%0 \"ids\": i64[1, 600]) -> (%0 \"y\") {\n}");
    let mut inputs = ids.inputs.clone();
    inputs[0] = Tensor::from_f64s(DType::I64, &[1, 600], (0..600).map(f64::from).collect()).into();
    let ids = Prepared { inputs, ..ids };
    let large = [Layer { shape: vec![1, 600, 600], shares: vec![1.0 / 600.0; 360_000], ..layer("large") }];
    let seen = Seen { model: &ids, layers: &large, rollout: None, weighted: None };
    let page = attention(&about("m"), &seen).expect("a page");
    let data = seen_data(&page);
    assert_eq!((data["labels"][599].as_str(), data["image"].is_null()), (Some("599"), true));
    assert!(page.contains("large: maps of 600 x 600 are drawn as 300 x 300"));
}
