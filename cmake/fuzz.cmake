# Every tests/fuzz/fuzz_NAME.c becomes a libFuzzer program fuzz.NAME (preset `fuzz`, clang only).
file(GLOB fuzz_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/fuzz/fuzz_*.c)
add_custom_target(fuzzers)
foreach(source IN LISTS fuzz_sources)
    get_filename_component(name ${source} NAME_WE)
    string(REGEX REPLACE "^fuzz_" "fuzz." name ${name})
    add_executable(${name} EXCLUDE_FROM_ALL ${source})
    # libFuzzer finds the entry point by its name: no header declares it.
    set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS -Wno-missing-prototypes)
    target_link_libraries(${name} PRIVATE qr_runtime)
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    add_dependencies(fuzzers ${name})
endforeach()
