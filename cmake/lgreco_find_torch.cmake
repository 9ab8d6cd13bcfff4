# The torch that the building Python has: the target lgreco_pytorch, and the library
# LGRECO_TORCH_PYTHON. Only what is the same in CPU and CUDA builds of torch: its own package wants
# the CUDA toolkit when it was built with CUDA, and nothing here does.

execute_process(
  COMMAND ${Python_EXECUTABLE} -c "import torch; print(torch.__path__[0])"
  OUTPUT_VARIABLE LGRECO_TORCH
  OUTPUT_STRIP_TRAILING_WHITESPACE
  RESULT_VARIABLE LGRECO_TORCH_MISSING)
if(LGRECO_TORCH_MISSING)
  message(FATAL_ERROR "LGRECO_TORCH=ON needs torch in ${Python_EXECUTABLE}: pip install torch==2.13.0")
endif()

add_library(lgreco_pytorch INTERFACE)
target_include_directories(
  lgreco_pytorch SYSTEM INTERFACE ${LGRECO_TORCH}/include
                                  ${LGRECO_TORCH}/include/torch/csrc/api/include)
target_compile_definitions(lgreco_pytorch INTERFACE USE_DISTRIBUTED)
set(libraries_of_torch PATHS ${LGRECO_TORCH}/lib NO_DEFAULT_PATH REQUIRED)
find_library(LGRECO_TORCH_CPU torch_cpu ${libraries_of_torch})
find_library(LGRECO_C10 c10 ${libraries_of_torch})
find_library(LGRECO_TORCH_PYTHON torch_python ${libraries_of_torch})
target_link_libraries(lgreco_pytorch INTERFACE ${LGRECO_TORCH_CPU} ${LGRECO_C10})
