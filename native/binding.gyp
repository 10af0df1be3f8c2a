# Builds native/build/Release/moe.node: the glue and engine, and the kernels once per instruction set, each as a static
# library with its own machine flags and namespace (MOE_KERNELS). `node-gyp rebuild --directory native`.
{
  "variables": {
    "kernel_sources": [
      "cpu/kernels/attention.cpp",
      "cpu/kernels/attention_backward.cpp",
      "cpu/kernels/attention_cached.cpp",
      "cpu/kernels/embed.cpp",
      "cpu/kernels/expert_choice.cpp",
      "cpu/kernels/gemm.cpp",
      "cpu/kernels/head.cpp",
      "cpu/kernels/layer_norm.cpp",
      "cpu/kernels/linear.cpp",
      "cpu/kernels/moe.cpp",
      "cpu/kernels/moe_packed.cpp",
      "cpu/kernels/optimizer.cpp",
      "cpu/kernels/packed.cpp",
      "cpu/kernels/packed_dot.cpp",
      "cpu/kernels/peak.cpp",
      "cpu/kernels/rms_norm.cpp",
      "cpu/kernels/rope.cpp",
      "cpu/kernels/router.cpp",
      "cpu/kernels/swiglu.cpp",
      "cpu/kernels/table.cpp"
    ],
    "warnings": ["-Wall", "-Wextra"],
    "kernel_flags": ["-std=c++17", "-O3", "-fPIC", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fno-exceptions"]
  },
  "target_defaults": {
    "defines": ["NAPI_VERSION=8", "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"],
    "conditions": [
      ["target_arch == 'x64'", {"defines": ["MOE_HAS_X86"]}],
      ["target_arch == 'x64' and OS != 'win'", {"defines": ["MOE_HAS_BF16"]}]
    ],
    "cflags!": ["-O3", "-O2", "-fno-omit-frame-pointer"],
    "cflags_cc!": ["-std=gnu++17", "-std=gnu++20", "-fno-exceptions"],
    "xcode_settings": {
      "CLANG_CXX_LANGUAGE_STANDARD": "c++17",
      "MACOSX_DEPLOYMENT_TARGET": "12.0",
      "WARNING_CFLAGS": ["<@(warnings)"]
    },
    "msvs_settings": {"VCCLCompilerTool": {"WarningLevel": 3, "AdditionalOptions": ["/std:c++17", "/O2"]}}
  },
  "targets": [
    {
      "target_name": "moe",
      "sources": ["cpu/addon.cpp", "cpu/arena.cpp", "cpu/engine.cpp", "cpu/format.cpp", "cpu/isa.cpp", "cpu/pool.cpp"],
      "include_dirs": ["../node_modules/node-addon-api"],
      "dependencies": ["kernels_portable"],
      "conditions": [
        ["target_arch == 'x64'", {"dependencies": ["kernels_avx2", "kernels_avx512", "kernels_avx512vnni"]}],
        ["target_arch == 'x64' and OS != 'win'", {"dependencies": ["kernels_avx512bf16"]}]
      ],
      "cflags": ["<@(warnings)", "-O2"],
      "cflags_cc": ["-std=c++17", "-fexceptions"],
      "xcode_settings": {"GCC_ENABLE_CPP_EXCEPTIONS": "YES", "GCC_OPTIMIZATION_LEVEL": "2"},
      "msvs_settings": {"VCCLCompilerTool": {"ExceptionHandling": 1}}
    },
    {
      "target_name": "kernels_portable",
      "type": "static_library",
      "sources": ["<@(kernel_sources)"],
      "defines": ["MOE_KERNELS=portable"],
      "cflags": ["<@(warnings)"],
      "cflags_cc": ["<@(kernel_flags)"],
      "xcode_settings": {"OTHER_CPLUSPLUSFLAGS": ["<@(kernel_flags)"]}
    }
  ],
  "conditions": [
    ["target_arch == 'x64'", {
      "targets": [
        {
          "target_name": "kernels_avx2",
          "type": "static_library",
          "sources": ["<@(kernel_sources)"],
          "defines": ["MOE_KERNELS=avx2"],
          "cflags": ["<@(warnings)"],
          "cflags_cc": ["<@(kernel_flags)", "-mavx2", "-mfma"],
          "xcode_settings": {"OTHER_CPLUSPLUSFLAGS": ["<@(kernel_flags)", "-mavx2", "-mfma"]},
          "msvs_settings": {"VCCLCompilerTool": {"AdditionalOptions": ["/arch:AVX2"]}}
        },
        {
          "target_name": "kernels_avx512",
          "type": "static_library",
          "sources": ["<@(kernel_sources)"],
          "defines": ["MOE_KERNELS=avx512"],
          "cflags": ["<@(warnings)"],
          "cflags_cc": ["<@(kernel_flags)", "-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"],
          "xcode_settings": {"OTHER_CPLUSPLUSFLAGS": ["<@(kernel_flags)", "-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma"]},
          "msvs_settings": {"VCCLCompilerTool": {"AdditionalOptions": ["/arch:AVX512"]}}
        },
        {
          "target_name": "kernels_avx512vnni",
          "type": "static_library",
          "sources": ["<@(kernel_sources)"],
          "defines": ["MOE_KERNELS=avx512vnni"],
          "cflags": ["<@(warnings)"],
          "cflags_cc": ["<@(kernel_flags)", "-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mavx512vnni", "-mfma", "-mprefer-vector-width=512"],
          "xcode_settings": {"OTHER_CPLUSPLUSFLAGS": ["<@(kernel_flags)", "-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mavx512vnni", "-mfma"]},
          "msvs_settings": {"VCCLCompilerTool": {"AdditionalOptions": ["/arch:AVX512"]}}
        }
      ]
    }],
    ["target_arch == 'x64' and OS != 'win'", {
      "targets": [
        {
          "target_name": "kernels_avx512bf16",
          "type": "static_library",
          "sources": ["<@(kernel_sources)"],
          "defines": ["MOE_KERNELS=avx512bf16"],
          "cflags": ["<@(warnings)"],
          "cflags_cc": ["<@(kernel_flags)", "-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mavx512vnni", "-mavx512bf16", "-mfma", "-mprefer-vector-width=512"],
          "xcode_settings": {"OTHER_CPLUSPLUSFLAGS": ["<@(kernel_flags)", "-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mavx512vnni", "-mavx512bf16", "-mfma"]}
        }
      ]
    }]
  ]
}
