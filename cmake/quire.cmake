# What every target of the project has in common, and the two kinds of target.

# -ffp-contract=off: a fused multiply-add happens where the source says so and nowhere
# else, so that results do not depend on the compiler (design, decision 4).
add_library(qr_options INTERFACE)
target_include_directories(qr_options INTERFACE ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
target_compile_definitions(qr_options INTERFACE _GNU_SOURCE QUIRE_VERSION="${PROJECT_VERSION}")
target_compile_options(qr_options INTERFACE
    -Wall -Wextra -Wpedantic -Wconversion -Wshadow
    $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes -Wmissing-prototypes>
    -Wvla -Wno-format-zero-length -fno-math-errno -ffp-contract=off -fno-omit-frame-pointer)
if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
    # Messages for people are cut to fit by design; gcc cannot tell that from a mistake.
    target_compile_options(qr_options INTERFACE -Wno-format-truncation)
endif()
if(QUIRE_WERROR)
    target_compile_options(qr_options INTERFACE -Werror)
endif()
target_link_libraries(qr_options INTERFACE Threads::Threads m)
if(QUIRE_SANITIZE)
    target_compile_options(qr_options INTERFACE -fsanitize=${QUIRE_SANITIZE} -fno-sanitize-recover=all)
    target_link_options(qr_options INTERFACE -fsanitize=${QUIRE_SANITIZE})
else()
    # A sanitizer brings its own allocator; everywhere else jemalloc is the heap.
    target_compile_definitions(qr_options INTERFACE QUIRE_JEMALLOC)
    target_link_libraries(qr_options INTERFACE PkgConfig::JEMALLOC)
endif()

if(QUIRE_FUZZ) # coverage feedback from all layers, not from the target's own file alone
    target_compile_options(qr_options INTERFACE -fsanitize=fuzzer-no-link)
endif()

# Kernels say by the end of their file's name which instruction set they are built for.
set(QUIRE_ISA_FLAGS_avx2 -mavx2 -mfma -mf16c)
set(QUIRE_ISA_FLAGS_avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -mf16c)

set(QUIRE_ISA_FLAGS_avx512vnni ${QUIRE_ISA_FLAGS_avx512} -mavx512vnni)
set(QUIRE_ISA_FLAGS_avx512bf16 ${QUIRE_ISA_FLAGS_avx512vnni} -mavx512bf16)
set(QUIRE_ISA_FLAGS_amx ${QUIRE_ISA_FLAGS_avx512bf16} -mamx-tile -mamx-int8 -mamx-bf16)
# gcc would load so far ahead that what 32 registers hold goes to the stack.
set(QUIRE_ISA_FLAGS_neon -march=armv8.2-a+dotprod $<$<C_COMPILER_ID:GNU>:-fno-schedule-insns>)

# The sets of this processor's family; files of the others hold no code here.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    set(QUIRE_ISAS avx2 avx512 avx512vnni avx512bf16 amx)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
    set(QUIRE_ISAS neon)
else()
    set(QUIRE_ISAS "")
endif()

# qr_isa_flags(SOURCE...): each for the set that it names.
function(qr_isa_flags)
    foreach(isa IN LISTS QUIRE_ISAS)
        set(kernels ${ARGN})
        list(FILTER kernels INCLUDE REGEX "_${isa}\\.c$")
        set_source_files_properties(${kernels} PROPERTIES COMPILE_OPTIONS "${QUIRE_ISA_FLAGS_${isa}}")
    endforeach()
endfunction()

# qr_layer(NAME LIBRARY...): all sources below NAME/ as the library qr_NAME, which sees the
# libraries of the layers below it and no other.
function(qr_layer name)
    file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${name}/*.c)
    list(FILTER sources EXCLUDE REGEX "/cli/main\\.c$|/cuda/emulator/")
    if(NOT sources)
        add_library(qr_${name} INTERFACE)
        set(scope INTERFACE)
    else()
        add_library(qr_${name} STATIC ${sources})
        set(scope PUBLIC)
    endif()
    target_link_libraries(qr_${name} ${scope} qr_options)
    target_link_libraries(qr_${name} ${scope} ${ARGN})
    qr_isa_flags(${sources})
endfunction()

# qr_optimize_across_files(PROGRAM LAYER...): calls between the files of these layers, many and
# short, are inlined in the program. Tests link the same objects as they are, which takes less time.
function(qr_optimize_across_files program)
    if(CMAKE_C_COMPILER_ID STREQUAL "GNU" AND CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo")
        foreach(layer IN LISTS ARGN)
            target_compile_options(${layer} PRIVATE -flto -ffat-lto-objects)
        endforeach()
        target_link_options(${program} PRIVATE -flto=auto -O3)
        target_link_options(qr_options INTERFACE
            $<$<NOT:$<STREQUAL:$<TARGET_PROPERTY:NAME>,${program}>>:-fno-lto>)
    endif()
endfunction()
