"""Egret in Bazel: an ONNX model as a `cc_library`.

    load("//third_party/egret:egret.bzl", "egret_library")

    egret_library(
        name = "digits",
        model = "digits.onnx",
        data = ["digits.onnx.data"],
        dims = {"batch": "1"},
        egret = "//third_party/egret",
    )

`#include "digits.h"` or `"digits.hpp"`. An action reads what is declared and nothing else, and its outputs are the same on every machine: it may run in a
sandbox, remotely, and come from a shared cache.
"""

load("@rules_cc//cc:defs.bzl", "cc_import", "cc_library")

def _quoted(word):
    return "'" + word.replace("'", "'\\''").replace("$", "$$") + "'"

# Bazel quotes it for the shell where it must.
def _path(label):
    return "$(execpath %s)" % label

def _options(name, values):
    return ["%s %s" % (name, _quoted("%s=%s" % (key, values[key]))) for key in sorted(values)]

def egret_library(
        name,
        model,
        egret,
        data = [],
        config = None,
        dims = {},
        shapes = {},
        at_most = {},
        bind = {},
        target = "x86-64-v2",
        **kwargs):
    """A library of a model.

    Args:
      name: of the library, and of the model in symbols and headers: an identifier of C.
      model: the .onnx file.
      egret: the label of the executable `egret`, which the repository has or builds.
      data: its files of external data.
      config: an `egret.toml`; none is read unless it is named here.
      dims: values of free dims by name.
      shapes: shapes of inputs by name, e.g. `{"image": "1,3,H,W"}`.
      at_most: how large dims may be that the model decides while it runs.
      bind: numbers that inputs are fixed to, as they are written on the command line.
      target: what `egret doctor` lists under targets, several with commas; `native` would be the machine of the action.
      **kwargs: of `cc_library`, e.g. `visibility`.
    """
    if "native" in target:
        fail("%s: the target `native` is whatever machine the action runs on; name a level" % name)

    # A folder of its own: in the root of a workspace, Bazel refuses the package's own folder as one to include from.
    folder = name + "_compiled"
    library = "%s/lib%s.a" % (folder, name)
    headers = ["%s/%s.%s" % (folder, name, kind) for kind in ["h", "hpp"]]
    words = [_path(egret), "compile", _path(model), "--no-cache"]
    words += ["--out-dir", "$(RULEDIR)/" + folder, "--name", name, "--emit", "lib,header,hpp", "--target", _quoted(target)]
    words += _options("--dim", dims) + _options("--shape", shapes) + _options("--at-most", at_most) + _options("--bind", bind)
    words += ["--config", _path(config)] if config else ["--no-config"]
    native.genrule(
        name = name + "_compile",
        srcs = [model] + data + ([config] if config else []),
        outs = [library] + headers,
        cmd = " ".join(words) + " >/dev/null",
        tools = [egret],
    )
    cc_import(
        name = name + "_archive",
        static_library = library,
    )
    cc_library(
        name = name,
        hdrs = headers,
        includes = [folder],
        deps = [":%s_archive" % name],
        **kwargs
    )
