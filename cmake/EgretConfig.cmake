# Egret in CMake: ONNX models as static libraries.
#
#   find_package(Egret REQUIRED)                       # CMAKE_PREFIX_PATH or Egret_DIR leads here
#   egret_add_model(digits MODEL net.onnx DIM batch=1)
#   target_link_libraries(app PRIVATE digits)          # and #include <digits.h> or <digits.hpp>
#
# The command is `egret` beside this file's prefix, in the checkout's target folder, or on the PATH; -DEgret_EXECUTABLE=... names another.

if(CMAKE_VERSION VERSION_LESS 3.20)
  set(Egret_FOUND FALSE)
  set(Egret_NOT_FOUND_MESSAGE "Egret needs CMake 3.20 or newer")
  return()
endif()
# Also of the function below: depfiles are brought to the generator's form (CMP0116).
cmake_policy(VERSION 3.20)

find_program(Egret_EXECUTABLE egret
  HINTS "${CMAKE_CURRENT_LIST_DIR}/../../../bin" "${CMAKE_CURRENT_LIST_DIR}/../target/release" "${CMAKE_CURRENT_LIST_DIR}/../target/debug"
  PATHS "$ENV{HOME}/.cargo/bin"
  NO_CMAKE_FIND_ROOT_PATH
  DOC "The egret command")
if(NOT Egret_EXECUTABLE)
  set(Egret_FOUND FALSE)
  set(Egret_NOT_FOUND_MESSAGE "the command `egret` was not found; install it or give -DEgret_EXECUTABLE=PATH")
  return()
endif()
set(EGRET_TARGET "" CACHE STRING "CPU that models are compiled for where egret_add_model does not say; empty: any of the build's architecture")

# egret_add_model(<target> MODEL <file> [NAME <name>] [TARGET <cpu>[,<cpu>...]] [WEIGHTS embed|file] [DIM <name>=<size>...]
#                 [SHAPE <input>=<dims>...] [AT_MOST <name>=<size>...] [BIND <input>=<value>...] [RULES <file>...] [ARGS <argument>...])
#
# A static library of a model, with its headers <name>.h and <name>.hpp to include; <name> is that of the target where none is
# given. Without TARGET it is any CPU of the architecture that is built for (CMAKE_SYSTEM_PROCESSOR). SHAPE says the shape of an
# input, of sizes and names of free dims (image=1,3,H,W). TARGET may name several levels, lowest
# first (x86-64-v3,x86-64-v4), of which the highest that the CPU has runs. BIND fixes inputs to numbers, or to what a file holds
# (.npy, .pb). ARGS are further arguments of `egret compile`; a file among them is named by its full path. With WEIGHTS file the
# target's property EGRET_WEIGHTS is the path of the weights. An egret.toml beside the model is read for what is not said here; where
# it comes or goes, the model is compiled again.
function(egret_add_model target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "MODEL;NAME;TARGET;WEIGHTS" "DIM;SHAPE;AT_MOST;BIND;RULES;ARGS")
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "egret_add_model(${target}): unknown arguments: ${arg_UNPARSED_ARGUMENTS}")
  endif()
  if(NOT arg_MODEL)
    message(FATAL_ERROR "egret_add_model(${target}): MODEL is missing")
  endif()
  get_filename_component(model "${arg_MODEL}" ABSOLUTE)
  if(NOT arg_NAME)
    string(MAKE_C_IDENTIFIER "${target}" arg_NAME)
  endif()
  if(NOT arg_TARGET)
    set(arg_TARGET "${EGRET_TARGET}")
  endif()
  if(NOT arg_TARGET)
    if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
      set(arg_TARGET x86-64-v2)
    elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
      set(arg_TARGET aarch64)
    elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^riscv64")
      set(arg_TARGET riscv64)
    else()
      message(FATAL_ERROR "egret_add_model(${target}): Egret does not compile for ${CMAKE_SYSTEM_PROCESSOR}; give TARGET")
    endif()
  endif()

  # Objects for another architecture than the build's are of no use to its linker, which says so in words of its own.
  set(processors "x86_64|AMD64|amd64" "aarch64|arm64|ARM64" "riscv64.*")
  set(levels "(x86-64|x86_64|v[0-9]).*" "(aarch64|arm64).*" "(riscv64|rv64).*")
  if(NOT CMAKE_OSX_ARCHITECTURES)
    string(REGEX MATCH "^[^,]*" first "${arg_TARGET}")
    foreach(processor level IN ZIP_LISTS processors levels)
      if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(${processor})$" AND first MATCHES "^(aarch64|arm64|riscv64|rv64|x86|v[0-9])" AND NOT first MATCHES "^${level}$")
        message(WARNING "egret_add_model(${target}): TARGET ${arg_TARGET} is for another architecture than this build, which is for ${CMAKE_SYSTEM_PROCESSOR}: "
          "nothing here can be linked with it. To build for another one, give CMake a toolchain file and leave TARGET out")
      endif()
    endforeach()
  endif()

  # The system that is built for stands behind each target, where it is another than that of this machine; or the architecture is, of which
  # a target without a system is Linux's.
  if(NOT CMAKE_SYSTEM_NAME STREQUAL CMAKE_HOST_SYSTEM_NAME
     OR (NOT CMAKE_SYSTEM_NAME STREQUAL "Linux" AND NOT CMAKE_SYSTEM_PROCESSOR STREQUAL CMAKE_HOST_SYSTEM_PROCESSOR))
    set(system "")
    if(CMAKE_SYSTEM_NAME STREQUAL "Windows")
      set(system "-windows")
    elseif(CMAKE_SYSTEM_NAME STREQUAL "Darwin")
      set(system "-macos")
    elseif(CMAKE_SYSTEM_NAME MATCHES "^(Linux|Android)$")
      set(system "-linux")
    endif()
    string(REPLACE "," ";" named "${arg_TARGET}")
    list(TRANSFORM named STRIP)
    if(NOT system AND NOT named MATCHES "-(windows|macos|linux)(;|$)")
      message(FATAL_ERROR "egret_add_model(${target}): Egret makes no objects for the system ${CMAKE_SYSTEM_NAME}; where its linker takes those of Linux, "
        "macOS or Windows, give a TARGET with -linux, -macos or -windows behind it")
    endif()
    list(TRANSFORM named APPEND "${system}" REGEX "^(x86-64-v[0-9a-z-]*|v[0-9][0-9a-z-]*|aarch64|arm64|riscv64|rv64gcv)$")
    list(TRANSFORM named REPLACE "(-(windows|macos|linux))-(windows|macos|linux)$" "\\1")
    list(JOIN named "," arg_TARGET)
  endif()

  set(dir "${CMAKE_CURRENT_BINARY_DIR}/egret/${target}")
  set(base "${dir}/${arg_NAME}")
  set(command "${Egret_EXECUTABLE}" compile "${model}" --out-dir "${dir}" --name "${arg_NAME}" --emit obj,header,hpp --keep-times --target "${arg_TARGET}")
  foreach(dim IN LISTS arg_DIM)
    list(APPEND command --dim "${dim}")
  endforeach()
  foreach(shape IN LISTS arg_SHAPE)
    list(APPEND command --shape "${shape}")
  endforeach()
  foreach(most IN LISTS arg_AT_MOST)
    list(APPEND command --at-most "${most}")
  endforeach()
  foreach(bind IN LISTS arg_BIND)
    if(bind MATCHES "^([^=]+)=(.+\\.(npy|pb))$")
      set(input "${CMAKE_MATCH_1}")
      get_filename_component(file "${CMAKE_MATCH_2}" ABSOLUTE)
      set(bind "${input}=${file}")
    endif()
    list(APPEND command --bind "${bind}")
  endforeach()
  foreach(rules IN LISTS arg_RULES)
    get_filename_component(rules "${rules}" ABSOLUTE)
    list(APPEND command --rules "${rules}")
  endforeach()
  # A header whose text stays the same keeps its time, so that what includes it is not compiled again. Ninja notices that of outputs, wants to know
  # every target of the depfile, and the first as the first. Makefiles would compile the model in every build for an output that is older than it, so
  # that there the headers are byproducts.
  set(headers "${base}.h" "${base}.hpp")
  set(outputs "${base}.manifest.json" "${base}.o" "${base}.trace")
  set(byproducts "")
  if(CMAKE_GENERATOR MATCHES "Ninja")
    list(PREPEND outputs ${headers})
  else()
    set(byproducts BYPRODUCTS ${headers})
  endif()
  if(arg_WEIGHTS)
    list(APPEND command --weights "${arg_WEIGHTS}")
    if(arg_WEIGHTS STREQUAL "file")
      list(APPEND outputs "${base}.weights")
    endif()
  endif()
  list(APPEND command ${arg_ARGS})
  # Each level of several has an object of its own, called by the level.
  set(objects "${base}.o")
  string(REPLACE "," ";" levels "${arg_TARGET}")
  list(LENGTH levels count)
  if(count GREATER 1)
    foreach(level IN LISTS levels)
      string(STRIP "${level}" level)
      if(NOT level MATCHES "^x86-64-v")
        message(FATAL_ERROR "egret_add_model(${target}): TARGET ${arg_TARGET}: `${level}` is no level's full name; "
          "write those that `egret doctor` lists under targets, e.g. x86-64-v3,x86-64-v4")
      endif()
      string(REGEX REPLACE "-(linux|macos|windows)$" "" level "${level}")
      string(MAKE_C_IDENTIFIER "${level}" level)
      list(APPEND objects "${base}_${level}.o")
    endforeach()
    list(APPEND outputs ${objects})
    list(REMOVE_DUPLICATES outputs)
  endif()

  # Settings beside the model may come and go between builds, which asks this file again: it is among what was asked for.
  get_filename_component(folder "${model}" DIRECTORY)
  file(GLOB settings CONFIGURE_DEPENDS "${folder}/egret.toml")

  # Makefiles do not notice another command by themselves: it is a file that the outputs depend on.
  set(options "${dir}/options.txt")
  set(before "")
  if(EXISTS "${options}")
    file(READ "${options}" before)
  endif()
  if(NOT before STREQUAL "${command};${settings}")
    file(WRITE "${options}" "${command};${settings}")
  endif()

  add_custom_command(
    OUTPUT ${outputs}
    ${byproducts}
    COMMAND ${command}
    DEPENDS "${model}" "${options}" "${Egret_EXECUTABLE}"
    DEPFILE "${base}.d"
    COMMENT "Compiling the model ${target}"
    VERBATIM)
  add_library(${target} STATIC ${outputs})
  set_source_files_properties(${objects} PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
  get_property(languages GLOBAL PROPERTY ENABLED_LANGUAGES)
  if("C" IN_LIST languages)
    set(language C)
  else()
    set(language CXX)
  endif()
  set_target_properties(${target} PROPERTIES
    LINKER_LANGUAGE ${language}
    PUBLIC_HEADER "${headers}"
    EGRET_WEIGHTS "${base}.weights")
  target_include_directories(${target} INTERFACE "$<BUILD_INTERFACE:${dir}>")
endfunction()
