/* A program around one compiled model: reads .npy and .npz, runs the model, prints a summary, writes .npz.
   Inputs may hold several samples along their first axis; the model then runs once for each. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_RANK 16
/* Elements that are printed of an output. */
#define SHOWN 10

typedef struct {
    unsigned char *data;
    size_t bytes;
    int64_t dims[MAX_RANK];
    uint32_t rank, dtype;
} array;

static void fail(const char *place, const char *what) {
    fprintf(stderr, MODEL_NAME ": %s: %s\n", place, what);
    exit(1);
}

static void *room(size_t n) {
    void *p = calloc(1, n ? n : 1);
    if (!p) {
        fprintf(stderr, MODEL_NAME ": not enough memory: %llu bytes more were needed. Give smaller inputs, or more memory (`ulimit -v`, the limit of the container)\n",
                (unsigned long long)n);
        exit(EXIT_NO_MEMORY);
    }
    return p;
}

/* ---- dtypes: ONNX number, NumPy spelling, size, name ---- */
static const struct { uint32_t dtype; const char *descr; size_t size; const char *name; } dtypes[] = {
    {1, "<f4", 4, "float32"}, {2, "|u1", 1, "uint8"},   {3, "|i1", 1, "int8"},     {4, "<u2", 2, "uint16"},
    {5, "<i2", 2, "int16"},   {6, "<i4", 4, "int32"},   {7, "<i8", 8, "int64"},    {9, "|b1", 1, "bool"},
    {10, "<f2", 2, "float16"}, {11, "<f8", 8, "float64"}, {12, "<u4", 4, "uint32"}, {13, "<u8", 8, "uint64"}};
#define N_DTYPES (sizeof dtypes / sizeof dtypes[0])

static size_t dtype_index(uint32_t dtype) {
    size_t i;
    for (i = 0; i < N_DTYPES; i++)
        if (dtypes[i].dtype == dtype) return i;
    fail("dtype", "has no NumPy form");
    return 0;
}

static size_t elements(const int64_t *dims, uint32_t rank) {
    size_t n = 1;
    uint32_t i;
    for (i = 0; i < rank; i++) n *= (size_t)dims[i];
    return n;
}

static double half(uint32_t bits) {
    uint32_t exponent = bits >> 10 & 31, fraction = bits & 1023;
    double v = exponent == 31 ? (fraction ? (double)NAN : (double)INFINITY)
               : exponent     ? ldexp(1024.0 + fraction, (int)exponent - 25)
                              : ldexp((double)fraction, -24);
    return bits >> 15 ? -v : v;
}

static double element(uint32_t dtype, const unsigned char *data, size_t i) {
    switch (dtype) {
    case 1: { float v; memcpy(&v, data + 4 * i, 4); return v; }
    case 2: case 9: return data[i];
    case 3: { signed char v; memcpy(&v, data + i, 1); return v; }
    case 5: { int16_t v; memcpy(&v, data + 2 * i, 2); return v; }
    case 4: { uint16_t v; memcpy(&v, data + 2 * i, 2); return v; }
    case 6: { int32_t v; memcpy(&v, data + 4 * i, 4); return v; }
    case 7: { int64_t v; memcpy(&v, data + 8 * i, 8); return (double)v; }
    case 10: { uint16_t v; memcpy(&v, data + 2 * i, 2); return half(v); }
    case 11: { double v; memcpy(&v, data + 8 * i, 8); return v; }
    case 12: { uint32_t v; memcpy(&v, data + 4 * i, 4); return v; }
    case 13: { uint64_t v; memcpy(&v, data + 8 * i, 8); return (double)v; }
    default: return 0;
    }
}

/* An element in text; integers to the last digit, which a double does not hold. */
static void print_element(uint32_t dtype, const unsigned char *data, size_t i) {
    int64_t s;
    uint64_t u;
    memset(&u, 0, sizeof u);
    switch (dtype) {
    case 7: memcpy(&s, data + 8 * i, 8); printf("%lld", (long long)s); break;
    case 13: memcpy(&u, data + 8 * i, 8); printf("%llu", (unsigned long long)u); break;
    default: printf("%.6g", element(dtype, data, i));
    }
}

/* ---- reading ---- */
static unsigned char *read_file(const char *path, size_t *len) {
    FILE *f = fopen(path, "rb");
    unsigned char *data;
    long end;
    if (!f) fail(path, strerror(errno));
    if (fseek(f, 0, SEEK_END) || (end = ftell(f)) < 0 || fseek(f, 0, SEEK_SET)) fail(path, "cannot be read");
    data = room((size_t)end);
    if (fread(data, 1, (size_t)end, f) != (size_t)end) fail(path, "cannot be read");
    fclose(f);
    *len = (size_t)end;
    return data;
}

static uint32_t u16(const unsigned char *p) { return (uint32_t)(p[0] | p[1] << 8); }
static uint32_t u32(const unsigned char *p) { return u16(p) | u16(p + 2) << 16; }

static array read_npy(const char *place, const unsigned char *p, size_t len) {
    array a;
    size_t header, at, i;
    char text[4096], *s;
    memset(&a, 0, sizeof a);
    if (len < 12 || memcmp(p, "\x93NUMPY", 6)) fail(place, "is no .npy file");
    header = p[6] >= 2 ? u32(p + 8) : u16(p + 8);
    at = p[6] >= 2 ? 12 : 10;
    if (header >= sizeof text || at + header > len) fail(place, "has a damaged .npy header");
    memcpy(text, p + at, header);
    text[header] = 0;
    if (strstr(text, "'fortran_order': True")) fail(place, "is in Fortran order; save it with numpy.ascontiguousarray");
    s = strstr(text, "'descr':");
    s = s ? strchr(s + 8, '\'') : NULL;
    for (i = 0; s && i < N_DTYPES; i++)
        if (!strncmp(s + 1, dtypes[i].descr, 3)) break;
    if (!s || i == N_DTYPES) fail(place, "has a dtype that models do not take");
    a.dtype = dtypes[i].dtype;
    s = strstr(text, "'shape':");
    s = s ? strchr(s, '(') : NULL;
    if (!s) fail(place, "has a damaged .npy header");
    for (s++; *s && *s != ')';) {
        if (*s >= '0' && *s <= '9') {
            if (a.rank == MAX_RANK) fail(place, "has too many axes");
            a.dims[a.rank++] = strtoll(s, &s, 10);
        } else {
            s++;
        }
    }
    a.bytes = elements(a.dims, a.rank) * dtypes[i].size;
    if (a.bytes != len - at - header) fail(place, "is cut off or has a damaged shape");
    a.data = room(a.bytes);
    memcpy(a.data, p + at + header, a.bytes);
    return a;
}

/* The entry `name`.npy of a zip file whose entries are stored. */
static int read_npz(const char *path, const unsigned char *p, size_t len, const char *name, array *out) {
    size_t end, i, at;
    uint32_t count;
    for (end = len; end > 22 && memcmp(p + end - 22, "PK\5\6", 4); end--) {}
    if (end < 22 || memcmp(p + end - 22, "PK\5\6", 4)) fail(path, "is neither a .npy nor a .npz file");
    count = u16(p + end - 22 + 10);
    at = u32(p + end - 22 + 16);
    for (i = 0; i < count; i++) {
        size_t n, local, body;
        if (at + 46 > len || memcmp(p + at, "PK\1\2", 4)) fail(path, "has a damaged directory");
        n = u16(p + at + 28);
        if (at + 46 + n > len) fail(path, "has a damaged directory");
        if (n == strlen(name) + 4 && !memcmp(p + at + 46, name, n - 4)) {
            if (u16(p + at + 10)) fail(path, "is compressed; save it with numpy.savez, not savez_compressed");
            local = u32(p + at + 42);
            if (local + 30 > len) fail(path, "has a damaged directory");
            body = local + 30 + u16(p + local + 26) + u16(p + local + 28);
            if (body + u32(p + at + 24) > len) fail(path, "is cut off");
            *out = read_npy(name, p + body, u32(p + at + 24));
            return 1;
        }
        at += 46 + n + u16(p + at + 30) + u16(p + at + 32);
    }
    return 0;
}

/* ---- writing ---- */
static uint32_t crc32_of(uint32_t crc, const unsigned char *p, size_t n) {
    size_t i;
    int b;
    crc = ~crc;
    for (i = 0; i < n; i++) {
        crc ^= p[i];
        for (b = 0; b < 8; b++) crc = crc >> 1 ^ (0xedb88320u & (0u - (crc & 1)));
    }
    return ~crc;
}

static void put(unsigned char *p, uint32_t v, int n) {
    for (; n--; v >>= 8) *p++ = (unsigned char)v;
}

static void write_npz(const char *path, const array *outs, uint32_t n) {
    FILE *f = fopen(path, "wb");
    unsigned char *directory = room(n * 512), end[22];
    size_t at = 0, dir = 0;
    uint32_t i, j;
    int ok = f != NULL;
    for (i = 0; ok && i < n; i++) {
        unsigned char head[30];
        char text[1024], shape[512] = "", name[260];
        size_t used = 0, pad, size;
        uint32_t crc;
        for (j = 0; j < outs[i].rank; j++)
            used += (size_t)snprintf(shape + used, sizeof shape - used, "%lld,%s", (long long)outs[i].dims[j], j + 1 < outs[i].rank ? " " : "");
        used = (size_t)snprintf(text + 10, sizeof text - 10, "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }",
                                dtypes[dtype_index(outs[i].dtype)].descr, shape);
        pad = 63 - (used + 10) % 64;
        memset(text + 10 + used, ' ', pad);
        used += pad;
        text[10 + used++] = '\n';
        memcpy(text, "\x93NUMPY\1", 7);
        text[7] = 0;
        put((unsigned char *)text + 8, (uint32_t)used, 2);
        used += 10;
        size = used + outs[i].bytes;
        if (size > 0xfffffff0u) fail(path, "would be larger than 4 GiB");
        snprintf(name, sizeof name, "%.250s.npy", MODEL_INFO.outputs[i].name);
        crc = crc32_of(crc32_of(0, (unsigned char *)text, used), outs[i].data, outs[i].bytes);
        memset(head, 0, sizeof head);
        memcpy(head, "PK\3\4\24", 5);
        put(head + 12, 33, 2);
        put(head + 14, crc, 4);
        put(head + 18, (uint32_t)size, 4);
        put(head + 22, (uint32_t)size, 4);
        put(head + 26, (uint32_t)strlen(name), 2);
        memcpy(directory + dir, "PK\1\2\24\0", 6);
        memcpy(directory + dir + 6, head + 4, 26);
        put(directory + dir + 42, (uint32_t)at, 4);
        memcpy(directory + dir + 46, name, strlen(name));
        dir += 46 + strlen(name);
        ok = fwrite(head, 1, 30, f) == 30 && fwrite(name, 1, strlen(name), f) == strlen(name) && fwrite(text, 1, used, f) == used &&
             fwrite(outs[i].data, 1, outs[i].bytes, f) == outs[i].bytes;
        at += 30 + strlen(name) + size;
    }
    memset(end, 0, sizeof end);
    memcpy(end, "PK\5\6", 4);
    put(end + 8, n, 2);
    put(end + 10, n, 2);
    put(end + 12, (uint32_t)dir, 4);
    put(end + 16, (uint32_t)at, 4);
    ok = ok && fwrite(directory, 1, dir, f) == dir && fwrite(end, 1, 22, f) == 22;
    if ((f && fclose(f)) || !ok) {
        remove(path);
        fail(path, "cannot be written");
    }
    free(directory);
}

/* ---- the run ---- */
static size_t argmax(const array *a, size_t row, size_t width) {
    size_t i, best = 0;
    for (i = 1; i < width; i++)
        if (element(a->dtype, a->data, row * width + i) > element(a->dtype, a->data, row * width + best)) best = i;
    return best;
}

static void draw(const array *a, size_t sample, size_t samples) {
    static const char shades[] = " .:-=+*#%@";
    size_t plane = a->rank < 2 ? 0 : (size_t)(a->dims[a->rank - 1] * a->dims[a->rank - 2]), i, w;
    if (!plane || a->dims[a->rank - 1] > 120 || elements(a->dims, a->rank) != samples * plane) return;
    w = (size_t)a->dims[a->rank - 1];
    for (i = 0; i < plane; i++) {
        double v = element(a->dtype, a->data, sample * plane + i);
        int shade = v <= 0 ? 0 : v >= 1 ? 9 : (int)(v * 9.999);
        putchar(shades[shade]);
        putchar(shades[shade]);
        if (i % w == w - 1) putchar('\n');
    }
}

/* What the program ends with: results that could not be written are no success. */
static int ended(void) {
    if (fflush(stdout) || ferror(stdout)) fail("standard output", "cannot be written");
    return 0;
}

static const char usage[] =
    "usage: " MODEL_NAME " [NAME=]FILE.npy ... | FILE.npz  [--labels FILE.npy] [--show N] [--output FILE.npz]\n"
    "Runs the model on the inputs; a first axis that is a multiple of the model's holds several samples.\n"
    "--labels: integers to compare the largest entry of each row of the first output with. --show N: draw the first N samples.\n";

int main(int argc, char **argv) {
    uint32_t n_in = MODEL_INFO.n_inputs, n_out = MODEL_INFO.n_outputs, i, j, next = 0;
    array *in = room(n_in * sizeof *in), *out = room(n_out * sizeof *out), labels;
    egret_tensor *ti = room(n_in * sizeof *ti), *to = room(n_out * sizeof *to);
    int *given = room(n_in * sizeof *given), a;
    const char *output = NULL;
    size_t samples = 1, s, show = 0, file_len;
    unsigned char *arena_block, *arena;
    egret_weights weights;
    egret_plan plan;
    int64_t *free_dims;
    int32_t e;
    memset(&labels, 0, sizeof labels);
    for (a = 1; a < argc; a++) {
        const char *path = argv[a], *eq = strchr(argv[a], '=');
        unsigned char *file;
        if (!strcmp(path, "--help") || !strcmp(path, "-h")) {
            fputs(usage, stdout);
            return ended();
        }
        if (!strncmp(path, "--", 2)) {
            if (a + 1 == argc) fail(path, "needs a value");
            if (!strcmp(path, "--output")) {
                output = argv[++a];
            } else if (!strcmp(path, "--show")) {
                char *end;
                const char *n = argv[++a];
                show = (size_t)strtoul(n, &end, 10);
                if (*n < '0' || *n > '9' || *end) fail("--show", "takes a whole number, 0 or more");
            } else if (!strcmp(path, "--labels")) {
                file = read_file(argv[++a], &file_len);
                labels = read_npy(argv[a], file, file_len);
                free(file);
            } else {
                fail(path, "is no option; try --help");
            }
            continue;
        }
        if (eq) path = eq + 1;
        file = read_file(path, &file_len);
        if (file_len > 4 && !memcmp(file, "PK", 2)) {
            for (i = 0; i < n_in; i++)
                if (read_npz(path, file, file_len, MODEL_INFO.inputs[i].name, &in[i])) given[i] = 1;
        } else {
            for (i = 0; eq && i < n_in; i++)
                if (strlen(MODEL_INFO.inputs[i].name) == (size_t)(eq - argv[a]) && !strncmp(MODEL_INFO.inputs[i].name, argv[a], (size_t)(eq - argv[a]))) break;
            if (!eq) i = next++;
            if (i >= n_in) fail(argv[a], "belongs to no input of the model");
            in[i] = read_npy(path, file, file_len);
            given[i] = 1;
        }
        free(file);
    }
    for (i = 0; i < n_in; i++) {
        const egret_port *p = &MODEL_INFO.inputs[i];
        size_t k = 1;
        if (!given[i]) {
            fprintf(stderr, "%s", usage);
            fail(p->name, "this input is not given");
        }
        if (in[i].dtype != p->dtype) fail(p->name, "the dtype is not the model's");
        if (in[i].rank != p->rank) fail(p->name, "the number of axes is not the model's");
        for (j = 0; j < p->rank; j++) {
            if (p->dims[j] < 0) {
                /* A free dim: the model holds it against the others. */
            } else if (!MODEL_INFO.n_symbols && !MODEL_INFO.n_lengths && j == 0 && p->dims[0] > 0 && in[i].dims[0] % p->dims[0] == 0) {
                k = (size_t)(in[i].dims[0] / p->dims[0]);
            } else if (in[i].dims[j] != p->dims[j]) {
                fprintf(stderr, MODEL_NAME ": %s: axis %u is %lld, the model takes %lld\n", p->name, (unsigned)j, (long long)in[i].dims[j], (long long)p->dims[j]);
                return 1;
            }
        }
        if (i == 0) samples = k;
        if (k != samples) fail(p->name, "holds another number of samples than the first input");
    }
    /* Values of the free dims, and what a run needs for them. */
    free_dims = room((MODEL_INFO.n_symbols + 1) * sizeof *free_dims);
    for (i = 0; i < MODEL_INFO.n_symbols; i++) free_dims[i] = in[MODEL_INFO.symbols[i].input].dims[MODEL_INFO.symbols[i].axis];
    e = MODEL_PLAN(free_dims, MODEL_INFO.n_symbols, &plan);
    if (e) {
        const char *condition = egret_condition(&MODEL_INFO, e);
        fprintf(stderr, MODEL_NAME ": %s", condition ? condition : "the inputs have dims that the model cannot be run with");
        for (i = 0; i < MODEL_INFO.n_symbols; i++) fprintf(stderr, "%s%s is %lld", i ? ", " : "; ", MODEL_INFO.symbols[i].name, (long long)free_dims[i]);
        fprintf(stderr, "\n");
        return 1;
    }
    for (i = 0; i < n_out; i++) {
        const egret_port *p = &MODEL_INFO.outputs[i];
        out[i].dtype = p->dtype;
        out[i].rank = p->rank;
        if (p->rank > MAX_RANK - 1) fail(p->name, "has too many axes");
        if (MODEL_SHAPE(free_dims, MODEL_INFO.n_symbols, i, out[i].dims)) fail(p->name, "has no shape for these inputs");
        if (p->rank) {
            out[i].dims[0] *= (int64_t)samples;
        } else if (samples != 1) {
            out[i].rank = 1;
            out[i].dims[0] = (int64_t)samples;
        }
        out[i].bytes = elements(out[i].dims, out[i].rank) * dtypes[dtype_index(p->dtype)].size;
        out[i].data = room(out[i].bytes);
    }
    arena_block = room((size_t)plan.arena_bytes + EGRET_ARENA_ALIGN);
    arena = arena_block + (EGRET_ARENA_ALIGN - (uintptr_t)arena_block % EGRET_ARENA_ALIGN) % EGRET_ARENA_ALIGN;
    e = MODEL_BIND_CALL(&weights);
    if (e) fail("weights", EGRET_ERROR_CODE(e) == EGRET_E_CPU ? "this CPU lacks instructions that the model was compiled for" : "do not belong to the model");
    for (s = 0; s < samples; s++) {
        for (i = 0; i < n_in; i++) {
            ti[i].data = in[i].data + s * (in[i].bytes / samples);
            ti[i].dims = MODEL_INFO.n_symbols ? in[i].dims : MODEL_INFO.inputs[i].dims;
            ti[i].rank = MODEL_INFO.inputs[i].rank;
            ti[i].dtype = MODEL_INFO.inputs[i].dtype;
        }
        for (i = 0; i < n_out; i++) {
            to[i].data = out[i].data + s * (out[i].bytes / samples);
            /* Where data decides dims they are written. */
            to[i].dims = MODEL_INFO.n_symbols || MODEL_INFO.n_lengths ? out[i].dims : MODEL_INFO.outputs[i].dims;
            to[i].rank = MODEL_INFO.outputs[i].rank;
            to[i].dtype = MODEL_INFO.outputs[i].dtype;
        }
        e = MODEL_RUN(&weights, ti, to, arena, (size_t)plan.arena_bytes, NULL);
        if (e && EGRET_ERROR_CODE(e) == EGRET_E_INDEX) {
            const egret_bad_index *bad = (const void *)arena;
            int kernel = EGRET_ERROR_KERNEL(e);
            const char *nodes = weights.info->nodes[kernel];
            fprintf(stderr, MODEL_NAME ": kernel %d %s%s%s%s: %lld is out of range, %lld to %lld is right\n", kernel, weights.info->kernels[kernel],
                    nodes ? " (" : "", nodes ? nodes : "", nodes ? ")" : "", (long long)bad->value, (long long)bad->low, (long long)bad->high - 1);
            return 1;
        }
        if (egret_condition(&MODEL_INFO, e)) {
            fprintf(stderr, MODEL_NAME ": %s\n", egret_condition(&MODEL_INFO, e));
            return 1;
        }
        if (e) {
            fprintf(stderr, MODEL_NAME ": run failed at tensor %d: %s\n", EGRET_ERROR_INDEX(e), egret_error_string(e));
            return 1;
        }
    }
    for (i = 0; i < n_out; i++) out[i].bytes = elements(out[i].dims, out[i].rank) * dtypes[dtype_index(out[i].dtype)].size;
    if (MODEL_INFO.n_symbols) {
        printf("%s:", MODEL_NAME);
        for (i = 0; i < MODEL_INFO.n_symbols; i++) printf(" %s = %lld", MODEL_INFO.symbols[i].name, (long long)free_dims[i]);
        printf("\n");
    } else {
        printf("%s: %lu sample%s\n", MODEL_NAME, (unsigned long)samples, samples == 1 ? "" : "s");
    }
    for (i = 0; i < n_out; i++) {
        size_t n = elements(out[i].dims, out[i].rank), k;
        size_t low = 0, high = 0, nans = 0;
        double sum = 0;
        for (k = 0; k < n; k++) {
            double v = element(out[i].dtype, out[i].data, k);
            low = v < element(out[i].dtype, out[i].data, low) ? k : low;
            high = v > element(out[i].dtype, out[i].data, high) ? k : high;
            nans += v != v;
            sum += v;
        }
        printf("  %s: %s [", MODEL_INFO.outputs[i].name, dtypes[dtype_index(out[i].dtype)].name);
        for (j = 0; j < out[i].rank; j++) printf("%s%lld", j ? ", " : "", (long long)out[i].dims[j]);
        printf("] =");
        for (k = 0; k < n && k < SHOWN; k++) {
            putchar(' ');
            print_element(out[i].dtype, out[i].data, k);
        }
        if (n > SHOWN) printf(" ...");
        if (nans) {
            printf("; %lu NaN", (unsigned long)nans);
        } else if (n > SHOWN) {
            printf("; min ");
            print_element(out[i].dtype, out[i].data, low);
            printf(" max ");
            print_element(out[i].dtype, out[i].data, high);
            printf(" mean %g", sum / (double)n);
        }
        printf("\n");
    }
    if (n_out && out[0].rank) {
        size_t width = (size_t)out[0].dims[out[0].rank - 1], rows = width ? elements(out[0].dims, out[0].rank) / width : 0, right = 0;
        for (s = 0; s < rows && s < show; s++) {
            if (n_in) draw(&in[0], s, rows);
            printf("  sample %lu: largest at %lu", (unsigned long)s, (unsigned long)argmax(&out[0], s, width));
            if (s < elements(labels.dims, labels.rank) && labels.data) printf(", label %.0f", element(labels.dtype, labels.data, s));
            printf("\n");
        }
        if (labels.data) {
            if (elements(labels.dims, labels.rank) != rows) fail("--labels", "holds another number of labels than there are rows");
            for (s = 0; s < rows; s++) right += (double)argmax(&out[0], s, width) == element(labels.dtype, labels.data, s);
            printf("  accuracy: %.1f %% (%lu of %lu)\n", 100.0 * (double)right / (double)rows, (unsigned long)right, (unsigned long)rows);
        }
    }
    if (output) write_npz(output, out, n_out);
    for (i = 0; i < n_in; i++) free(in[i].data);
    for (i = 0; i < n_out; i++) free(out[i].data);
    free(free_dims);
    free(labels.data);
    free(arena_block);
    free(in);
    free(out);
    free(ti);
    free(to);
    free(given);
    return ended();
}
