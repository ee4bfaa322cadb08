# Compiler flags of the instruction-set units: every file isa/*_avx2.cpp, *_avx512.cpp and so on, found by name.
# Under -fsanitize=undefined the fully unrolled tiles take many minutes to compile. linear_scalar.cpp, the same order of
# operations written out, stays instrumented, and address checks stay on everywhere.
set(everywhere "")
if(PONDER_SANITIZE MATCHES "undefined" OR PONDER_FUZZ)
  list(APPEND everywhere -fno-sanitize=undefined)
endif()
if(MINGW)
  # On Windows g++ aligns the stack to 16 bytes only and yet keeps 32-byte variables there (GCC bug 54412).
  list(APPEND everywhere -Wa,-muse-unaligned-vector-move)
endif()
function(ponder_isa_units ending)
  file(GLOB units CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/backend/cpu/isa/*_${ending}.cpp)
  set_source_files_properties(${units} PROPERTIES COMPILE_OPTIONS "${ARGN};${everywhere}")
endfunction()
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64")
  ponder_isa_units(avx2 -mavx2 -mfma -mf16c)
  ponder_isa_units(avx2_vnni -mavx2 -mfma -mf16c -mavxvnni)
  # g++ 12 warns about its own intrinsics ("__Y is used uninitialized").
  set(avx512 -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mfma -mf16c -Wno-uninitialized -Wno-maybe-uninitialized)
  ponder_isa_units(evex_vnni ${avx512} -mprefer-vector-width=256)
  ponder_isa_units(avx512 ${avx512} -mprefer-vector-width=512)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  ponder_isa_units(neon -march=armv8.2-a+dotprod+fp16)
endif()
