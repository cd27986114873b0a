//! Transposing a strip of units into a panel.

/// Side of the blocks that are transposed at once.
const B: usize = 16;

/// `to[k · width + j] = from[j · stride + k]` for `j < rows`, `k < steps`; columns from `rows` to `width` become 0.
pub fn transpose(
    from: &[u32],
    stride: usize,
    rows: usize,
    steps: usize,
    width: usize,
    to: &mut [u32],
) {
    let to = &mut to[..steps * width];
    if rows < width {
        for row in to.chunks_exact_mut(width) {
            row[rows..].fill(0);
        }
    }
    for j in (0..rows).step_by(B) {
        for k in (0..steps).step_by(B) {
            let (height, depth) = (B.min(rows - j), B.min(steps - k));
            let (from, to) = (&from[j * stride + k..], &mut to[k * width + j..]);
            #[cfg(target_arch = "x86_64")]
            if height == B && depth == B && super::isa::isa() >= super::isa::Isa::Avx512 {
                assert!(from.len() >= (B - 1) * stride + B && to.len() >= (B - 1) * width + B);
                // SAFETY: AVX-512 was detected, and sixteen rows of sixteen lie inside both by the assertion.
                unsafe { x86::block(from.as_ptr(), stride, to.as_mut_ptr(), width) };
                continue;
            }
            for j in 0..height {
                for k in 0..depth {
                    to[k * width + j] = from[j * stride + k];
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    /// Transposes sixteen rows of sixteen values: first within 4×4 blocks, then the blocks.
    ///
    /// # Safety
    /// Sixteen values each can be read at `from + j · stride` and written at `to + k · width`, j and k below 16.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn block(from: *const u32, stride: usize, to: *mut u32, width: usize) {
        // SAFETY: the caller's.
        let row = |j: usize| unsafe { _mm512_loadu_ps(from.add(j * stride).cast()) };
        let mut quads = [_mm512_setzero_ps(); 16];
        for q in 0..4 {
            let [a, b, c, d] = [row(4 * q), row(4 * q + 1), row(4 * q + 2), row(4 * q + 3)];
            let (ab_low, ab_high) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
            let (cd_low, cd_high) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
            let pairs = |ab: __m512, cd: __m512| {
                let (ab, cd) = (_mm512_castps_pd(ab), _mm512_castps_pd(cd));
                let (low, high) = (_mm512_unpacklo_pd(ab, cd), _mm512_unpackhi_pd(ab, cd));
                (_mm512_castpd_ps(low), _mm512_castpd_ps(high))
            };
            // quads[4 q + r], lane group g: column 4 g + r of rows 4 q to 4 q + 3.
            (quads[4 * q], quads[4 * q + 1]) = pairs(ab_low, cd_low);
            (quads[4 * q + 2], quads[4 * q + 3]) = pairs(ab_high, cd_high);
        }
        for r in 0..4 {
            let [a, b, c, d] = [quads[r], quads[4 + r], quads[8 + r], quads[12 + r]];
            let (ab_even, ab_odd) = (
                _mm512_shuffle_f32x4::<0b10_00_10_00>(a, b),
                _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b),
            );
            let (cd_even, cd_odd) = (
                _mm512_shuffle_f32x4::<0b10_00_10_00>(c, d),
                _mm512_shuffle_f32x4::<0b11_01_11_01>(c, d),
            );
            let columns = [
                _mm512_shuffle_f32x4::<0b10_00_10_00>(ab_even, cd_even),
                _mm512_shuffle_f32x4::<0b10_00_10_00>(ab_odd, cd_odd),
                _mm512_shuffle_f32x4::<0b11_01_11_01>(ab_even, cd_even),
                _mm512_shuffle_f32x4::<0b11_01_11_01>(ab_odd, cd_odd),
            ];
            for (g, column) in columns.into_iter().enumerate() {
                // SAFETY: the caller's.
                unsafe { _mm512_storeu_ps(to.add((4 * g + r) * width).cast(), column) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::transpose;

    #[test]
    fn every_shape_is_transposed_and_padded() {
        for (rows, steps, width) in [
            (32, 48, 32),
            (16, 16, 16),
            (19, 33, 32),
            (1, 5, 16),
            (30, 16, 32),
        ] {
            let stride = steps + 3;
            let from: Vec<u32> = (1..=(rows * stride) as u32).collect();
            let mut to = vec![u32::MAX; steps * width];
            transpose(&from, stride, rows, steps, width, &mut to);
            for k in 0..steps {
                for j in 0..width {
                    let want = if j < rows { from[j * stride + k] } else { 0 };
                    assert_eq!(to[k * width + j], want, "{rows} {steps} {width}: {k} {j}");
                }
            }
        }
    }
}
