//! The key of a run: all that what it finds depends on.

use egret::Result;
use egret::ir::Value;
use egret::samples::Samples;

/// Of what is asked (in words), a model's file, samples, the hashes of stats, and the version of Egret. Where files stand does not count.
///
/// # Errors
/// Samples that cannot be read.
pub fn key(asked: &str, model: &[u8], samples: &[&Samples], stats: &[[u8; 32]]) -> Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    let mut add = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    add(env!("CARGO_PKG_VERSION").as_bytes());
    add(std::env::consts::ARCH.as_bytes());
    add(asked.as_bytes());
    add(blake3::hash(model).as_bytes());
    for samples in samples {
        add(&(samples.len() as u64).to_le_bytes());
        samples.each_labelled(&mut |_, sample, label| {
            for (name, value) in sample {
                add(name.as_bytes());
                tensors(value, &mut add);
            }
            add(&label.map_or(vec![], |l| l.to_le_bytes().to_vec()));
            Ok(())
        })?;
    }
    for hash in stats {
        add(hash);
    }
    Ok(*hasher.finalize().as_bytes())
}

fn tensors(value: &Value, add: &mut dyn FnMut(&[u8])) {
    match value {
        Value::Tensor(t) => add(&t.content_hash().0),
        Value::Sequence(list) => {
            add(&(list.len() as u64).to_le_bytes());
            list.iter().for_each(|v| tensors(v, add));
        }
        Value::Optional(None) => add(b"none"),
        Value::Optional(Some(v)) => tensors(v, add),
    }
}
