//! A `tokenizer.json`, as Hugging Face's library writes it: tokens of text and text of tokens.

use egret::{Error, ErrorKind, Result, files, suite};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tokenizers::ModelWrapper;

/// A tokenizer.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    path: PathBuf,
    /// Special tokens, by what they are written as.
    special: BTreeMap<String, i64>,
    /// One more than the largest token.
    size: usize,
}

/// How models write the end of a text or of what one speaker says.
const ENDS: [&str; 14] = [
    "</s>",
    "<eos>",
    "[EOS]",
    "<|eos|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|end_of_turn|>",
    "<end_of_turn>",
    "<|end▁of▁sentence|>",
    "<｜end▁of▁sentence｜>",
];

/// Does something with the library, whose failures, panics among them, are the file's.
fn guarded<T>(path: &Path, what: &str, f: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    let failed = |e: &dyn std::fmt::Display| Error::user(format!("{}: {what}: {e}", path.display()));
    suite::guarded(|| f().map_err(|e| failed(&e))).map_err(|e| match e.kind {
        ErrorKind::Internal => failed(&"the file is damaged; get it anew from where the model is from"),
        _ => e,
    })
}

impl Tokenizer {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or is no tokenizer; one that splits words at random.
    pub fn open(path: &Path) -> Result<Tokenizer> {
        let text = files::read_text(path, "a tokenizer.json")?;
        // What comes after a prompt is found on one thread.
        tokenizers::utils::parallelism::set_parallelism(false);
        let (inner, special, largest) =
            guarded(path, "no tokenizer.json as Hugging Face's library writes it", || {
                let mut inner: tokenizers::Tokenizer = text.parse()?;
                // A prompt is neither filled up nor cut off, as the texts of a batch are.
                inner.with_padding(None).with_truncation(None)?;
                let added = inner.get_added_tokens_decoder();
                let special = added.iter().filter(|(_, token)| token.special);
                let special = special.map(|(id, token)| (token.content.clone(), i64::from(*id))).collect();
                let largest = inner.get_vocab(true).into_values().max();
                Ok((inner, special, largest))
            })?;
        if matches!(inner.get_model(), ModelWrapper::BPE(bpe) if bpe.dropout.is_some_and(|part| part > 0.0))
        {
            return Err(Error::unsupported(format!(
                "{}: it splits words at random, as for training; set `dropout` of its model to null",
                path.display()
            )));
        }
        let largest =
            largest.ok_or_else(|| Error::user(format!("{}: it has no tokens", path.display())))?;
        Ok(Tokenizer { inner, path: path.to_owned(), special, size: largest as usize + 1 })
    }

    /// The tokens of a text, with those that the tokenizer puts in front and behind.
    ///
    /// # Errors
    /// It has none for a part of it.
    pub fn tokens(&self, text: &str) -> Result<Vec<i64>> {
        guarded(&self.path, "the prompt has no tokens", || {
            Ok(self.inner.encode_fast(text, true)?.get_ids().iter().map(|&id| i64::from(id)).collect())
        })
    }

    /// The text of tokens; special ones, and those that it does not know, have none.
    ///
    /// # Errors
    /// Its decoder fails.
    pub fn text(&self, tokens: &[i64]) -> Result<String> {
        let ids: Vec<u32> = tokens.iter().filter_map(|&t| u32::try_from(t).ok()).collect();
        guarded(&self.path, "tokens have no text", || self.inner.decode(&ids, true))
    }

    /// Whether there is such a token.
    pub fn knows(&self, token: i64) -> bool {
        u32::try_from(token).is_ok_and(|id| self.inner.id_to_token(id).is_some())
    }

    /// The special token that is written so.
    pub fn special(&self, text: &str) -> Option<i64> {
        self.special.get(text).copied()
    }

    /// Special tokens that are written as models write the end of a text.
    pub fn ends(&self) -> impl Iterator<Item = (&str, i64)> {
        self.special
            .iter()
            .filter(|(text, _)| ENDS.contains(&text.as_str()))
            .map(|(text, id)| (text.as_str(), *id))
    }

    /// One more than the largest token.
    pub fn size(&self) -> usize {
        self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// Tokenizers whose parts are of many kinds.
    fn kinds() -> Vec<Value> {
        let bytes = include_str!("../../../../../fixtures/tokenizers/bytes.json");
        let special = |id: u32, content: &str| json!({"id": id, "content": content, "single_word": false, "lstrip": true, "rstrip": true, "normalized": true, "special": true});
        let template = json!({
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "</s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [0], "tokens": ["</s>"]}}
        });
        let words = json!({
            "version": "1.0",
            "added_tokens": [special(0, "</s>")],
            "normalizer": {"type": "Sequence", "normalizers": [
                {"type": "NFKC"}, {"type": "Prepend", "prepend": "_"}, {"type": "Strip", "strip_left": true, "strip_right": true},
                {"type": "Replace", "pattern": {"Regex": "a+"}, "content": "a"},
                {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true}
            ]},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": "(?=b)"}, "behavior": "Isolated", "invert": false},
                {"type": "Punctuation", "behavior": "Isolated"}, {"type": "FixedLength", "length": 4}
            ]},
            "post_processor": template,
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
            "model": {
                "type": "WordPiece", "unk_token": "?", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
                "vocab": {"</s>": 0, "?": 1, "a": 2, "##b": 3, "_": 4}
            }
        });
        let pieces = json!({
            "version": "1.0",
            "added_tokens": [special(2, "</s>")],
            "normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAAAA=="},
            "pre_tokenizer": {"type": "Metaspace", "replacement": "_", "prepend_scheme": "always", "split": true},
            "post_processor": {"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["</s>", 2], "trim_offsets": true, "add_prefix_space": true},
            "decoder": {"type": "Sequence", "decoders": [
                {"type": "Replace", "pattern": {"String": "_"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0}
            ]},
            "model": {"type": "Unigram", "unk_id": 0, "byte_fallback": true, "vocab": [["?", -9.0], ["a", -1.0], ["</s>", 0.0], ["<0xC3>", -4.0]]}
        });
        let mut plain = pieces.clone();
        plain["normalizer"] = Value::Null;
        plain["decoder"] =
            json!({"type": "CTC", "pad_token": "?", "word_delimiter_token": "_", "cleanup": true});
        plain["model"] =
            json!({"type": "WordLevel", "unk_token": "?", "vocab": {"?": 0, "a": 1, "</s>": 2}});
        vec![serde_json::from_str(bytes).expect("JSON"), words, pieces, plain]
    }

    /// The places of a document; of long lists and maps the first few.
    fn places(value: &Value, at: &str, out: &mut Vec<String>) {
        out.push(at.to_owned());
        match value {
            Value::Array(list) => {
                list.iter().take(6).enumerate().for_each(|(i, v)| places(v, &format!("{at}/{i}"), out));
            }
            Value::Object(map) => {
                let key = |k: &String| k.replace('~', "~0").replace('/', "~1");
                map.iter().take(10).for_each(|(k, v)| places(v, &format!("{at}/{}", key(k)), out));
            }
            _ => {}
        }
    }

    #[test]
    fn damaged_files_are_refused_or_work() {
        suite::capture_panics();
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("tokenizer.json");
        // Whether it could be opened; that it or what it does fails is no fault, and a panic would end the test.
        let tried = |text: &str| {
            std::fs::write(&path, text).expect("a file");
            let made = Tokenizer::open(&path).and_then(|tokenizer| {
                tokenizer.tokens("a b\u{e9}</s> aab!")?;
                tokenizer.text(&[0, 1, 2, 3, 4, 300, -1, i64::MAX]).map(|_| tokenizer)
            });
            if let Err(e) = &made {
                assert!(e.kind != ErrorKind::Internal && e.message.contains("tokenizer.json"), "{e}");
            }
            made.is_ok()
        };
        let others = [
            json!(null),
            json!(-1),
            json!(0),
            json!(4_000_000_000_u32),
            json!(1e300),
            json!(""),
            json!("_"),
            json!("(a|a)*(a|a)*$"),
            json!([]),
            json!({}),
            json!(true),
        ];
        for (kind, document) in kinds().iter().enumerate() {
            let mut list = vec![];
            places(document, "", &mut list);
            let mut worked = 0;
            for place in &list {
                for other in &others {
                    let mut changed = document.clone();
                    *changed.pointer_mut(place).expect("a place") = other.clone();
                    worked += usize::from(tried(&changed.to_string()));
                }
            }
            // Neither all of them nor none: the documents are read as what they are.
            assert!(worked > 0 && worked < list.len() * others.len(), "{kind}: {worked} of {}", list.len());
            let text = document.to_string();
            for cut in (0..text.len()).step_by(97).filter(|&n| text.is_char_boundary(n)) {
                assert!(!tried(&text[..cut]));
            }
        }
    }
}
