# All tests that can use a device as one program, for a bundle (tools/bundle.sh): the kernels, most
# of a test's size, are in it once. `gpu_tests NAME` is what test.NAME is. Included by
# tests/CMakeLists.txt; tools/cuda_tests.sh names the tests.
execute_process(COMMAND ${CMAKE_SOURCE_DIR}/tools/cuda_tests.sh OUTPUT_VARIABLE names)
string(REGEX MATCHALL "[^\n]+" names "${names}")

set(folder ${CMAKE_CURRENT_BINARY_DIR}/gpu_test_sources)
set(sources ${folder}/main.c)
set(declarations "")
set(rows "")
foreach(name IN LISTS names)
    string(MAKE_C_IDENTIFIER ${name} symbol)
    string(REPLACE "." "/" path ${name})
    string(REGEX REPLACE "([^/]+)$" "test_\\1.c" path ${path})
    file(CONFIGURE OUTPUT ${folder}/${symbol}.c @ONLY CONTENT
"/* Written by cmake/gpu_tests.cmake. */
int main_${symbol}(void);
#define main main_${symbol}
#include \"tests/${path}\"
")
    list(APPEND sources ${folder}/${symbol}.c)
    string(APPEND declarations "int main_${symbol}(void);\n")
    string(APPEND rows "    {\"${name}\", main_${symbol}},\n")
endforeach()
file(CONFIGURE OUTPUT ${folder}/main.c @ONLY CONTENT
"/* Written by cmake/gpu_tests.cmake. */
#include <stdio.h>
#include <string.h>

${declarations}
static const struct {
    const char *name;
    int (*run)(void);
} tests[] = {
${rows}};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc == 2 && i < sizeof(tests) / sizeof(tests[0]); i++) {
        if (strcmp(argv[1], tests[i].name) == 0)
            return tests[i].run();
    }
    fprintf(stderr, \"usage: gpu_tests NAME\\n\");
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
        fprintf(stderr, \"  %s\\n\", tests[i].name);
    return 2;
}
")
add_executable(gpu_tests EXCLUDE_FROM_ALL ${sources})
target_link_libraries(gpu_tests PRIVATE qr_test_support qr_cuda_emulated qr_cuda_test_images)
set_target_properties(gpu_tests PROPERTIES LINKER_LANGUAGE C)
if(QUIRE_CUDA_INCLUDE)
    target_include_directories(gpu_tests SYSTEM PRIVATE ${QUIRE_CUDA_INCLUDE})
endif()
