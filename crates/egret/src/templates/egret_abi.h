/* The C ABI of models compiled by Egret, version 5. Every model's header carries this part; it is read once. */
#ifndef EGRET_ABI_5
#define EGRET_ABI_5

#include <stddef.h>
#include <stdint.h>

/* A dense row-major tensor that the caller owns. `data` is aligned to the dtype and written only for outputs.
   `dtype` is the number of ONNX's TensorProto.DataType; sub-byte types take one byte an element.
   Where data decides a dim of an output (how many boxes a detector has found), <m>_shape tells the most that it can be, for which there must
   be room, and <m>_run writes to `dims` what it has come to: the elements of such a tensor are the first of `data`. When it is called, such
   `dims` hold the most, each time anew, and are an array that is not constant and that no other tensor has. */
typedef struct egret_tensor {
    void *data;
    const int64_t *dims;
    uint32_t rank;
    uint32_t dtype;
} egret_tensor;

/* Name, dtype and shape of an input or output: static data of the model. A negative dim is free, whatever the number: the caller's tensors say what it is,
   and <m>_shape tells those of outputs, the most where data decides. */
typedef struct egret_port {
    const char *name;
    const int64_t *dims;
    uint32_t rank;
    uint32_t dtype;
} egret_port;

/* A free dim of the model: <m>_run reads its value off axis `axis` of input `input`. */
typedef struct egret_symbol {
    const char *name;
    uint32_t input, axis;
} egret_symbol;

/* What a run needs. A dim of `outputs` that is negative is told by <m>_shape. */
typedef struct egret_plan {
    uint64_t arena_bytes;
    const egret_port *outputs;
    uint32_t n_outputs;
    uint32_t reserved;
} egret_plan;

/* Bound weights; filled by <m>_bind, shared freely between threads. `info` describes what runs: it is &<m>_info, or, where the model holds
   several levels of an instruction set, the highest of <m>_info.levels that the CPU has. What <m>_run reports of kernels is about it. It
   may be set to a lower one of these, as tests do; a higher one may have instructions that the CPU has not. */
typedef struct egret_weights {
    const void *data;
    uint64_t len;
    uint64_t check;
    const struct egret_info *info;
} egret_weights;

/* Services of the caller, all optional: a NULL egret_env means one thread. `parallel` runs body(arg, i) for all i in 0..n, in any
   order on any threads, and returns when all are done; models that run at the same time may call it at the same time. `profile`
   is told at the begin (phase 0) and end (1) of each kernel. <m>_run computes in a floating-point state of its own (nearest even, no
   traps, denormals as the model was compiled) on every thread, calls these two in it, and puts back the state in which it was
   called. */
typedef struct egret_env {
    void *ctx;
    void (*parallel)(void *ctx, void (*body)(void *arg, int64_t i), void *arg, int64_t n);
    void *profile_ctx;
    void (*profile)(void *ctx, uint32_t kernel, uint32_t phase);
    uint32_t threads;
    uint32_t reserved;
} egret_env;

/* What a model says about itself. One that holds several levels of an instruction set has no kernels of its own (n_kernels is 0: they are
   the levels'), its arena_bytes are the most that any level needs, and its target names them all. */
typedef struct egret_info {
    uint32_t abi_version, n_inputs, n_outputs, n_kernels;
    const char *name;
    const egret_port *inputs, *outputs;
    const char *const *kernels;
    const char *target;
    const char *producer;
    uint64_t arena_bytes, weights_bytes, weights_check;
    uint8_t weights_hash[32];
    uint8_t model_hash[32];
    /* For each kernel that may fail with EGRET_E_INDEX its ONNX nodes ("Gather:/emb", separated by commas), or NULL. Behind them, from
       nodes[n_kernels] on, the conditions that EGRET_E_SIZES names: see egret_condition. */
    const char *const *nodes;
    /* The free dims, in the order in which <m>_plan and <m>_shape take their values. */
    const egret_symbol *symbols;
    uint32_t n_symbols;
    /* How many dims data decides; 0: no output's dims are written. */
    uint32_t n_lengths;
    /* The instruction set by the name that --target takes ("x86-64-v3"); of several levels all of them, lowest first, with commas. */
    const char *isa;
    /* The levels, lowest first; NULL and 0 where there is one, and in what describes a level. */
    const struct egret_info *const *levels;
    uint32_t n_levels;
    uint32_t reserved;
} egret_info;

/* What the arena begins with after EGRET_E_INDEX: the first number in the data that the kernel found outside low <= value < high.
   An index counts from the end where it is negative, so for n elements it is -n <= value < n. */
typedef struct egret_bad_index {
    int64_t value, low, high;
} egret_bad_index;

/* Memory of a run. What <m>_run writes, which is every output and as much of the arena as it needs, must not share a byte
   with anything else that it is given: another output, the arena, an input, the weights. So there is no running in place, and
   outputs may hold anything until it returns. Inputs may share memory with one another. Runs at the same time need outputs and
   arenas of their own; inputs and weights they may share. Overlap within one run is refused with EGRET_E_OVERLAP. */
#define EGRET_ARENA_ALIGN 64

/* 0 is success. A negative value holds a code, the index of the tensor (inputs first, then outputs) and an axis; that of
   EGRET_E_INDEX the number of a kernel instead, by which `kernels` and `nodes` of the info in the bound weights name it, and that of
   EGRET_E_SIZES the number of a condition, from 1, or 0. */
#define EGRET_ERROR_CODE(e) ((int)(-(int64_t)(e) & 0xff))
#define EGRET_ERROR_INDEX(e) ((int)(-(int64_t)(e) >> 8 & 0xfff))
#define EGRET_ERROR_AXIS(e) ((int)(-(int64_t)(e) >> 20 & 0xff))
#define EGRET_ERROR_KERNEL(e) ((int)(-(int64_t)(e) >> 8 & 0x7fffff))
#define EGRET_ERROR_CONDITION(e) ((int)(-(int64_t)(e) >> 8 & 0x7fffff))
enum {
    EGRET_E_NULL = 1,        /* a pointer is NULL that must not be */
    EGRET_E_DTYPE = 2,       /* the dtype of a tensor is not the model's */
    EGRET_E_RANK = 3,        /* the rank of a tensor is not the model's */
    EGRET_E_DIM = 4,         /* a dim of a tensor is not the model's */
    EGRET_E_ARENA = 5,       /* the arena is too small */
    EGRET_E_ALIGN = 6,       /* the arena, the weights or a tensor is misaligned */
    EGRET_E_WEIGHTS = 7,     /* the weights are not this model's */
    EGRET_E_CPU = 8,         /* the CPU lacks an instruction set that the code needs (of several levels: of the lowest), or the operating system keeps it from the
                                process: code for x86-64-v4-amx asks Linux for AMX when it is bound */
    EGRET_E_UNBOUND = 9,     /* the weights were not bound by this model's bind */
    EGRET_E_BOUND_VALUE = 10, /* an input does not have the value it was bound to at compile time */
    EGRET_E_DIMS = 11,       /* plan or shape was given a wrong number of dims, or no output has this number */
    EGRET_E_INDEX = 12,      /* an index in the data is outside its axis; outputs are of no account, see egret_bad_index */
    EGRET_E_OVERLAP = 13,    /* an output, or the arena (index: the number of tensors), shares memory with something else */
    EGRET_E_SIZES = 14       /* the free dims have values for which a size overflows, or that do not fit one another */
};

/* What a value that is not 0 means, in words. */
static inline const char *egret_error_string(int32_t e) {
    switch (EGRET_ERROR_CODE(e)) {
    case 0: return "success";
    case EGRET_E_NULL: return "a pointer is NULL that must not be";
    case EGRET_E_DTYPE: return "the dtype of a tensor is not the model's";
    case EGRET_E_RANK: return "the rank of a tensor is not the model's";
    case EGRET_E_DIM: return "a dim of a tensor is not the model's";
    case EGRET_E_ARENA: return "the arena is too small";
    case EGRET_E_ALIGN: return "the arena, the weights or a tensor is misaligned";
    case EGRET_E_WEIGHTS: return "the weights are not this model's";
    case EGRET_E_CPU: return "the CPU lacks an instruction set that the code needs";
    case EGRET_E_UNBOUND: return "the weights were not bound by this model's bind";
    case EGRET_E_BOUND_VALUE: return "an input does not have the value it was bound to at compile time";
    case EGRET_E_DIMS: return "plan or shape was given a wrong number of dims or output";
    case EGRET_E_INDEX: return "an index in the data is outside its axis";
    case EGRET_E_OVERLAP: return "an output or the arena shares memory with something else";
    case EGRET_E_SIZES: return "the free dims have values that the model cannot be run with";
    default: return "an unknown error";
    }
}

/* What the free dims have to be and were not, for EGRET_E_SIZES: "node `Slice:/tail` needs `seq` to be at least 8". NULL where no condition is named:
   for any other value, where a size overflows, and for models of earlier compilers. */
static inline const char *egret_condition(const egret_info *info, int32_t e) {
    if (EGRET_ERROR_CODE(e) != EGRET_E_SIZES || !EGRET_ERROR_CONDITION(e)) return 0;
    return info->nodes[info->n_kernels + (uint32_t)EGRET_ERROR_CONDITION(e) - 1];
}

#endif
