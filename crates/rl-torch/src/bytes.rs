//! Tensors from bytes that lie in memory, such as a mapped file's.

use tch::{Device, Kind, Tensor};

use crate::{Error, Result};

/// Copies `data`, numbers of type `kind` in this machine's byte order, into a new tensor of shape `size` on `device`.
///
/// One pass, on all threads of libtorch: `Tensor::f_from_data_size` first fills the tensor with zeros, which costs as much
/// again. Booleans must be bytes of 0 or 1.
///
/// # Errors
/// [`Error::Argument`] unless `data` holds exactly the numbers of `size`; [`Error::Torch`] when the device has no room.
pub fn tensor_from_bytes(data: &[u8], size: &[i64], kind: Kind, device: Device) -> Result<Tensor> {
    let mut tensor = Tensor::f_empty(size, (kind, device))?;
    let width = kind.elt_size_in_bytes();
    if data.len() != tensor.numel() * width {
        let reason = format!("{size:?} of {kind:?} needs {}", tensor.numel() * width);
        return Err(Error::Argument { name: "data", value: format!("{} bytes", data.len()), reason });
    }
    if data.is_empty() {
        return Ok(tensor);
    }
    if !data.as_ptr().addr().is_multiple_of(width) {
        return Ok(Tensor::f_from_data_size(data, size, kind)?.f_to_device(device)?);
    }
    // SAFETY: `data` is live until the end of this function, aligned for `kind` and as long as `size` asks for, as was seen
    // to above; the view is only read, and dropped here.
    let view = unsafe { Tensor::f_from_blob(data.as_ptr(), size, &[], kind, Device::Cpu) }?;
    tensor.f_copy_(&view)?;
    Ok(tensor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes_back_from_its_bytes_also_where_they_are_not_aligned() {
        let numbers = Tensor::linspace(-3.0, 90.0, 100_000, (Kind::Float, Device::Cpu)).view([250, 400]);
        for kind in
            [Kind::Double, Kind::Float, Kind::Half, Kind::BFloat16, Kind::Int64, Kind::Int, Kind::Uint8, Kind::Bool]
        {
            let expected = numbers.to_kind(kind);
            let width = kind.elt_size_in_bytes();
            let mut bytes = vec![0; 100_000 * width + 17];
            let aligned = bytes.as_ptr().align_offset(16);
            for start in [aligned, aligned + 1] {
                let range = start..start + 100_000 * width;
                expected.copy_data_u8(&mut bytes[range.clone()], 100_000);
                let found = tensor_from_bytes(&bytes[range], &[250, 400], kind, Device::Cpu).unwrap();
                assert_eq!((found.kind(), &found), (kind, &expected), "{kind:?} from {start}");
            }
        }
    }

    #[test]
    fn the_tensor_outlives_its_bytes_and_may_be_empty() {
        let bytes = 1.5_f32.to_ne_bytes().repeat(3);
        let tensor = tensor_from_bytes(&bytes, &[3], Kind::Float, Device::Cpu).unwrap();
        drop(bytes);
        assert_eq!(tensor, Tensor::from_slice(&[1.5_f32; 3]));
        assert_eq!(tensor_from_bytes(&[], &[0, 7], Kind::Half, Device::Cpu).unwrap().size(), [0, 7]);
    }

    #[test]
    fn too_few_and_too_many_bytes_are_refused() {
        for length in [0, 7, 9] {
            let error = tensor_from_bytes(&vec![0; length], &[2], Kind::Float, Device::Cpu).unwrap_err();
            assert_eq!(error.to_string(), format!("`data` is {length} bytes: [2] of Float needs 8"));
        }
        assert!(tensor_from_bytes(&[0], &[-1], Kind::Uint8, Device::Cpu).is_err());
    }
}
