# Looks for a CUDA toolkit and sets PONDER_HAVE_CUDA. Never downloads: `make cuda-toolkit` fetches NVIDIA's own packages
# from PyPI when none is installed. The runtime is linked statically and opens the driver by itself at run time, so the
# program starts on any machine (src/backend/cuda/driver).
set(PONDER_CUDA AUTO CACHE STRING "the NVIDIA backend: AUTO (when a toolkit is found), ON, OFF")
set(PONDER_CUDA_ARCHS "75-real;80-real;86-real;89-real;90a-real;90-virtual;120-real;120-virtual" CACHE STRING
    "kernels for these cards (CMAKE_CUDA_ARCHITECTURES)")
set(PONDER_CUDA_TOOLKIT "$ENV{PONDER_CUDA_TOOLKIT}" CACHE PATH "root of a CUDA toolkit (holds bin/nvcc)")
set(PONDER_HAVE_CUDA OFF)

if(NOT PONDER_CUDA STREQUAL "OFF")
  find_program(PONDER_NVCC nvcc
               HINTS ${PONDER_CUDA_TOOLKIT}/bin $ENV{HOME}/.cache/ponder-cuda/nvidia/cu13/bin
               PATHS /usr/local/cuda/bin)
  if(PONDER_NVCC)
    execute_process(COMMAND ${PONDER_NVCC} --version OUTPUT_VARIABLE nvcc_text)
    string(REGEX MATCH "release ([0-9]+\\.[0-9]+)" nvcc_found "${nvcc_text}")
    if(CMAKE_MATCH_1 VERSION_GREATER_EQUAL 13.0)
      set(PONDER_HAVE_CUDA ON)
    elseif(PONDER_CUDA STREQUAL "ON")
      message(FATAL_ERROR "${PONDER_NVCC} is of CUDA ${CMAKE_MATCH_1}; 13.0 or newer is needed (make cuda-toolkit)")
    else()
      message(STATUS "CUDA backend: off, ${PONDER_NVCC} is of CUDA ${CMAKE_MATCH_1} and 13.0 is needed")
    endif()
  elseif(PONDER_CUDA STREQUAL "ON")
    message(FATAL_ERROR "no CUDA toolkit found: install CUDA 13, or run `make cuda-toolkit`, or set PONDER_CUDA_TOOLKIT")
  else()
    message(STATUS "CUDA backend: off, no toolkit found (make cuda-toolkit)")
  endif()
endif()

if(PONDER_HAVE_CUDA)
  get_filename_component(cuda_root ${PONDER_NVCC} DIRECTORY)
  get_filename_component(cuda_root ${cuda_root} DIRECTORY)
  set(CMAKE_CUDA_COMPILER ${PONDER_NVCC})
  set(CMAKE_CUDA_ARCHITECTURES ${PONDER_CUDA_ARCHS})
  set(CMAKE_CUDA_FLAGS_INIT "-L${cuda_root}/lib -L${cuda_root}/lib64")  # PyPI's packages have no lib64
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
  enable_language(CUDA)
  foreach(kind STANDARD EXTENSION)  # CMake 3.25 does not know that nvcc speaks C++20
    if(NOT CMAKE_CUDA20_${kind}_COMPILE_OPTION)
      set(CMAKE_CUDA20_${kind}_COMPILE_OPTION "-std=c++20")
    endif()
  endforeach()
  message(STATUS "CUDA backend: on, ${PONDER_NVCC} ${CMAKE_CUDA_COMPILER_VERSION} for ${PONDER_CUDA_ARCHS}")
endif()
