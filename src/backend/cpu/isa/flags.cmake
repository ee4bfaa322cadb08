# Compiler flags of the instruction-set units: every file isa/*avx2.cpp and isa/*avx512.cpp, found by name.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64")
  file(GLOB avx2_units CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/*avx2.cpp)
  file(GLOB avx512_units CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/*avx512.cpp)
  # Under -fsanitize=undefined the fully unrolled tiles take many minutes to compile. linear_scalar.cpp, the same order of
  # operations written out, stays instrumented, and address checks stay on everywhere.
  set(unrolled "")
  if(PONDER_SANITIZE MATCHES "undefined" OR PONDER_FUZZ)
    set(unrolled "-fno-sanitize=undefined")
  endif()
  set_source_files_properties(${avx2_units} PROPERTIES COMPILE_OPTIONS "-mavx2;-mfma;-mf16c;${unrolled}")
  # g++ 12 warns about its own intrinsics ("__Y is used uninitialized").
  set_source_files_properties(${avx512_units} PROPERTIES COMPILE_OPTIONS
    "-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mavx512vnni;-mfma;-mf16c;-mprefer-vector-width=512;-Wno-uninitialized;-Wno-maybe-uninitialized;${unrolled}")
endif()
