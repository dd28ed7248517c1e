# Kernels (.cu) are compiled twice: by the C++ compiler for the emulator of base/cuda/emulator, which
# tests link, and by nvcc, where it is, for the program.
file(GLOB_RECURSE cuda_kernels CONFIGURE_DEPENDS
    ${CMAKE_SOURCE_DIR}/base/*.cu ${CMAKE_SOURCE_DIR}/attention/*.cu ${CMAKE_SOURCE_DIR}/runtime/*.cu)

# ---- the emulator ----

file(GLOB emulator_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/base/cuda/emulator/*.c)
file(GLOB_RECURSE test_kernels CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/*.cu)
add_library(qr_cuda_emulated OBJECT EXCLUDE_FROM_ALL
    ${emulator_sources} ${cuda_kernels} ${test_kernels})
target_link_libraries(qr_cuda_emulated PUBLIC qr_options)
set_source_files_properties(${cuda_kernels} ${test_kernels} PROPERTIES LANGUAGE CXX)
# Optimised in every build type: what runs on it is most of what its tests do.
target_compile_options(qr_cuda_emulated PRIVATE -O2
    $<$<COMPILE_LANGUAGE:CXX>:-std=c++17 -fno-exceptions -fno-rtti -fno-threadsafe-statics>)
if(QUIRE_SANITIZE)
    # Four times faster to compile.
    target_compile_options(qr_cuda_emulated PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-O1>)
endif()
if(QUIRE_SANITIZE MATCHES "thread")
    # ThreadSanitizer watches the kernels' accesses; the emulator's own threads are none of its.
    set(machine ${emulator_sources})
    list(FILTER machine INCLUDE REGEX "/(barriers|copies|fiber|run|schedule|wgmma)\\.c$")
    set_source_files_properties(${machine} PROPERTIES COMPILE_OPTIONS
        "-fno-sanitize=thread;$<$<C_COMPILER_ID:GNU>:-fno-tree-loop-distribute-patterns>")
    target_compile_definitions(qr_cuda_emulated PRIVATE QR_EMULATOR_TSAN)
endif()

# ---- the program ----

option(QUIRE_CUDA "Compile the kernels with nvcc, where it is, and embed them" ON)
if(QUIRE_CUDA)
    find_program(QUIRE_NVCC nvcc HINTS /usr/local/cuda/bin)
    if(QUIRE_NVCC)
        execute_process(COMMAND ${QUIRE_NVCC} --version OUTPUT_VARIABLE nvcc_version)
        string(REGEX MATCH "release ([0-9.]+)" nvcc_version "${nvcc_version}")
        set(QUIRE_NVCC_RELEASE ${CMAKE_MATCH_1} CACHE INTERNAL "read by tools/check_kernels.py")
        if(QUIRE_NVCC_RELEASE VERSION_LESS 12)
            message(STATUS "nvcc is older than 12.0: no CUDA kernels in this build")
            set(QUIRE_NVCC "")
        endif()
    endif()
endif()

# qr_embed_kernels(LIBRARY SOURCE...): an object library with the sources' kernels for GPUs and
# the table of them (base/cuda/images.h); an empty one where there is no nvcc.
function(qr_embed_kernels library)
    set(folder ${CMAKE_BINARY_DIR}/cuda)
    set(declarations "")
    set(rows "")
    set(fatbins "")
    set(n 0)
    foreach(source IN LISTS ARGN)
        if(NOT QUIRE_CUDA OR NOT QUIRE_NVCC)
            break()
        endif()
        file(RELATIVE_PATH relative ${CMAKE_SOURCE_DIR} ${source})
        string(MAKE_C_IDENTIFIER ${relative} symbol)
        set(fatbin ${folder}/${symbol}.fatbin)
        list(APPEND fatbins ${fatbin})
        if(NOT TARGET cuda.${symbol}) # another library may have this kernel too
            add_custom_command(OUTPUT ${fatbin}
                COMMAND ${CMAKE_SOURCE_DIR}/cmake/nvcc.sh ${QUIRE_NVCC} ${source} ${fatbin}
                DEPENDS ${source} ${CMAKE_SOURCE_DIR}/cmake/nvcc.sh
                DEPFILE ${fatbin}.d
                COMMENT "Compiling ${relative} for GPUs" VERBATIM)
            add_custom_target(cuda.${symbol} DEPENDS ${fatbin})
        endif()
        string(APPEND declarations
            "__asm__(\".section .rodata\\n.balign 64\\nfatbin_${symbol}:\\n.incbin \\\"${fatbin}\\\"\\n\"\n"
            "        \".byte 0\\n.text\\n\");\n"
            "extern const char fatbin_${symbol}[];\n")
        string(APPEND rows "    {\"${relative}\", fatbin_${symbol}},\n")
        math(EXPR n "${n} + 1")
    endforeach()
    if(n EQUAL 0)
        set(rows "    {0}\n")
    endif()
    file(CONFIGURE OUTPUT ${folder}/${library}.c @ONLY CONTENT
"/* Written by cmake/cuda.cmake. */
#include \"base/cuda/images.h\"

${declarations}
static const struct qr_cu_image images[] = {
${rows}};
const struct qr_cuda_image_table qr_cuda_images = {images, ${n}};
")
    add_library(${library} OBJECT EXCLUDE_FROM_ALL ${folder}/${library}.c)
    target_link_libraries(${library} PRIVATE qr_options)
    set_source_files_properties(${folder}/${library}.c PROPERTIES OBJECT_DEPENDS "${fatbins}")
    foreach(fatbin IN LISTS fatbins)
        get_filename_component(symbol ${fatbin} NAME_WLE)
        add_dependencies(${library} cuda.${symbol})
    endforeach()
endfunction()

qr_embed_kernels(qr_cuda_images ${cuda_kernels})
# The tests' own kernels besides, but not those that are wrong on purpose.
list(FILTER test_kernels EXCLUDE REGEX "/planted_")
qr_embed_kernels(qr_cuda_test_images ${cuda_kernels} ${test_kernels})
