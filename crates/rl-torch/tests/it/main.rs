//! Settings of the whole process: a binary of its own, since they would reach every other test.

use rl_torch::{AttentionKernels, Determinism, RuntimeSettings};
use tch::{Device, Kind, Tensor};

/// Each setting differs from the default once, and is read back as it was set; then back to the start. One test, since
/// tests of a binary run at the same time.
#[test]
fn settings_are_read_back_as_they_were_set_and_take_effect() {
    let start = RuntimeSettings::current().unwrap();
    let num_threads = start.num_threads;
    assert!(num_threads.is_some_and(|count| 1 <= count));
    let plain = RuntimeSettings { num_threads, ..Default::default() };
    let without = |change: fn(&mut AttentionKernels)| {
        let mut kernels = AttentionKernels::default();
        change(&mut kernels);
        RuntimeSettings { attention_kernels: kernels, ..plain }
    };
    let all = [
        plain,
        RuntimeSettings { determinism: Determinism::Warn, ..plain },
        RuntimeSettings { determinism: Determinism::On, ..plain },
        RuntimeSettings { tf32_matmul: true, ..plain },
        RuntimeSettings { tf32_cudnn: true, ..plain },
        RuntimeSettings { num_threads: Some(3), ..plain },
        RuntimeSettings { num_threads: Some(1), ..plain },
        without(|kernels| kernels.flash = false),
        without(|kernels| kernels.mem_efficient = false),
        without(|kernels| kernels.cudnn = false),
        without(|kernels| kernels.math = false),
    ];
    for settings in all {
        settings.apply().unwrap();
        assert_eq!(RuntimeSettings::current().unwrap(), settings);
    }
    RuntimeSettings { num_threads: Some(2), ..plain }.apply().unwrap();
    RuntimeSettings { num_threads: None, ..plain }.apply().unwrap();
    assert_eq!(RuntimeSettings::current().unwrap().num_threads, Some(2), "absent leaves the number as it is");

    // Two sources for one place: libtorch has no reproducible form of `put_`.
    let put = || {
        let mut target = Tensor::zeros([2], (Kind::Float, Device::Cpu));
        target.f_put_(&Tensor::from_slice(&[0_i64, 0]), &Tensor::from_slice(&[1.0_f32, 2.0]), false).map(|_| ())
    };
    put().unwrap();
    RuntimeSettings { determinism: Determinism::On, ..plain }.apply().unwrap();
    assert!(put().unwrap_err().to_string().contains("deterministic"));
    RuntimeSettings { determinism: Determinism::Warn, ..plain }.apply().unwrap();
    put().unwrap();

    let before = RuntimeSettings::current().unwrap();
    for (settings, name) in [
        (RuntimeSettings { num_threads: Some(0), tf32_matmul: true, ..plain }, "num_threads"),
        (RuntimeSettings { num_threads: Some(1 << 31), tf32_matmul: true, ..plain }, "num_threads"),
        (
            RuntimeSettings {
                attention_kernels: AttentionKernels { flash: false, mem_efficient: false, cudnn: false, math: false },
                ..plain
            },
            "attention_kernels",
        ),
    ] {
        assert!(settings.apply().unwrap_err().to_string().contains(name));
        assert_eq!(RuntimeSettings::current().unwrap(), before, "a refused setting changes nothing");
    }
    start.apply().unwrap();
    assert_eq!(RuntimeSettings::current().unwrap(), start);
}

#[test]
fn settings_are_read_from_toml_and_unknown_names_refused() {
    let read = toml::from_str::<RuntimeSettings>;
    assert_eq!(read("").unwrap(), RuntimeSettings::default());
    let settings = read("determinism = \"warn\"\ntf32_matmul = true\nnum_threads = 4").unwrap();
    assert_eq!((settings.determinism, settings.num_threads), (Determinism::Warn, Some(4)));
    let written = toml::to_string(&settings).unwrap();
    assert_eq!(toml::from_str::<RuntimeSettings>(&written).unwrap(), settings);
    assert!(read("tf32 = true").unwrap_err().to_string().contains("tf32_matmul"));
    assert!(read("[attention_kernels]\nflash = true").is_err(), "a list of kernels is whole");
}
