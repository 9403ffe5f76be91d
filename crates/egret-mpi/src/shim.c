/* What src/lib.rs calls of MPI, in types that do not depend on which MPI it is: handles of MPI are integers in one and pointers in another.
 * Every function but the last gives 0, or MPI's code of an error. */

#include <mpi.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static MPI_Comm all = MPI_COMM_NULL;

/* Start, and say who this is, of how many, and how many of them are on this machine. The calling thread is the only one that may call the others. */
int egret_mpi_start(int *rank, int *count, int *local) {
    int provided, e;
    MPI_Comm near;
    if ((e = MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided))) return e;
    if (provided < MPI_THREAD_FUNNELED) return MPI_ERR_OTHER;
    if ((e = MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN))) return e;
    if ((e = MPI_Comm_dup(MPI_COMM_WORLD, &all))) return e;
    if ((e = MPI_Comm_set_errhandler(all, MPI_ERRORS_RETURN))) return e;
    if ((e = MPI_Comm_rank(all, rank))) return e;
    if ((e = MPI_Comm_size(all, count))) return e;
    if ((e = MPI_Comm_split_type(all, MPI_COMM_TYPE_SHARED, *rank, MPI_INFO_NULL, &near))) return e;
    if ((e = MPI_Comm_size(near, local))) return e;
    return MPI_Comm_free(&near);
}

/* Begin to send; the bytes stay as they are until the request is done. */
int egret_mpi_send(const void *bytes, int count, int to, int tag, void **request) {
    MPI_Request *r = malloc(sizeof *r);
    int e;
    if (!r) return MPI_ERR_NO_MEM;
    if ((e = MPI_Isend(bytes, count, MPI_BYTE, to, tag, all, r))) {
        free(r);
        return e;
    }
    *request = r;
    return 0;
}

/* Whether a message has come: from whom, of how many bytes, and what receives it. */
int egret_mpi_next(int *come, int *from, int *tag, int *count, void **message) {
    MPI_Message m;
    MPI_Status status;
    MPI_Message *kept;
    int e;
    if ((e = MPI_Improbe(MPI_ANY_SOURCE, MPI_ANY_TAG, all, come, &m, &status)) || !*come) return e;
    if ((e = MPI_Get_count(&status, MPI_BYTE, count))) return e;
    if (!(kept = malloc(sizeof *kept))) return MPI_ERR_NO_MEM;
    *kept = m;
    *from = status.MPI_SOURCE;
    *tag = status.MPI_TAG;
    *message = kept;
    return 0;
}

/* Begin to receive a message, which is used up; the bytes belong to the request until it is done. */
int egret_mpi_receive(void *message, void *bytes, int count, void **request) {
    MPI_Message *m = message;
    MPI_Request *r = malloc(sizeof *r);
    int e;
    if (!r) return MPI_ERR_NO_MEM;
    e = MPI_Imrecv(bytes, count, MPI_BYTE, m, r);
    free(m);
    if (e) {
        free(r);
        return e;
    }
    *request = r;
    return 0;
}

/* Whether a request is done, which uses it up. */
int egret_mpi_done(void *request, int *done) {
    int e = MPI_Test(request, done, MPI_STATUS_IGNORE);
    if (!e && *done) free(request);
    return e;
}

/* What a code means: at most `count` bytes, the last of them 0. */
int egret_mpi_meaning(int code, char *text, int count) {
    char full[MPI_MAX_ERROR_STRING];
    int length, e = MPI_Error_string(code, full, &length);
    if (e) return e;
    if (length > count - 1) length = count - 1;
    memcpy(text, full, (size_t)length);
    text[length] = 0;
    return 0;
}

/* End, which waits for all processes to. */
int egret_mpi_end(void) {
    int e = MPI_Comm_free(&all);
    return e ? e : MPI_Finalize();
}

/* End all processes. */
void egret_mpi_abort(int code) {
    MPI_Abort(MPI_COMM_WORLD, code);
    abort();
}
