/* Reads handwritten digits and says how many of them the model gets right: digits IMAGES.npy LABELS.npy */
#include "simple_cnn.h"
#include <stdio.h>

_Alignas(EGRET_ARENA_ALIGN) static unsigned char arena[SIMPLE_CNN_ARENA_BYTES];

/* Opens a .npy file at its data. */
static FILE *data(const char *path) {
    unsigned char head[10];
    FILE *f = fopen(path, "rb");
    if (f && (fread(head, 1, 10, f) != 10 || fseek(f, 10 + head[8] + 256 * head[9], SEEK_SET))) {
        fclose(f);
        f = NULL;
    }
    if (!f) fprintf(stderr, "%s cannot be read\n", path);
    return f;
}

int main(int argc, char **argv) {
    egret_weights weights;
    float image[SIMPLE_CNN_IN0_ELEMENTS], logits[SIMPLE_CNN_OUT0_ELEMENTS];
    int64_t label;
    int right = 0, all = 0;
    FILE *images = argc == 3 ? data(argv[1]) : NULL, *labels = argc == 3 ? data(argv[2]) : NULL;
    int32_t e = simple_cnn_bind(&weights, NULL, 0);
    if (!images || !labels) return 2;
    while (!e && fread(image, sizeof image, 1, images) == 1 && fread(&label, sizeof label, 1, labels) == 1) {
        int best = 0, i;
        e = simple_cnn_call(&weights, image, logits, arena, NULL);
        for (i = 1; i < 10; i++) {
            if (logits[i] > logits[best]) best = i;
        }
        right += best == label;
        all++;
    }
    if (e) {
        fprintf(stderr, "the model failed: %s\n", egret_error_string(e));
        return 1;
    }
    printf("%d of %d right\n", right, all);
    return 0;
}
