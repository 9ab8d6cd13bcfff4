# The torch that the building Python has.

execute_process(
  COMMAND ${Python_EXECUTABLE} -c "import torch.utils; print(torch.utils.cmake_prefix_path)"
  OUTPUT_VARIABLE LGRECO_TORCH_PREFIX
  OUTPUT_STRIP_TRAILING_WHITESPACE
  RESULT_VARIABLE LGRECO_TORCH_MISSING)
if(LGRECO_TORCH_MISSING)
  message(FATAL_ERROR "LGRECO_TORCH=ON needs torch in ${Python_EXECUTABLE}: pip install torch==2.13.0")
endif()
find_package(Torch REQUIRED CONFIG PATHS ${LGRECO_TORCH_PREFIX} NO_DEFAULT_PATH)
