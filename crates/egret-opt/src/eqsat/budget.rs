//! Allots the error budget of a pass to its regions.

use super::optimized_region::OptimizedRegion;

/// Chooses the regions that take their approximate form, those first that gain most for their error, and
/// returns the choice with the sum of errors. `copies`: how often each region occurs in the graph.
pub(crate) fn allot(
    regions: &[Result<OptimizedRegion, String>],
    copies: &[usize],
    budget: f64,
) -> (Vec<bool>, f64) {
    let mut offers: Vec<(f64, f64, usize)> = vec![];
    for (i, region) in regions.iter().enumerate() {
        if let Ok(OptimizedRegion { cost, approximate: Some(near), .. }) = region {
            let all = near.error * copies[i] as f64;
            offers.push((cost.saturating_sub(near.cost) as f64 * copies[i] as f64 / all, all, i));
        }
    }
    offers.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.2.cmp(&b.2)));
    let (mut taken, mut spent) = (vec![false; regions.len()], 0.0);
    for (_, error, i) in offers {
        if spent + error <= budget {
            spent += error;
            taken[i] = true;
        }
    }
    (taken, spent)
}
