/* Blocks to a file and from it, by the plainest calls there are: what the disk workloads are held against beside fio, which does more
 * between two of them.
 *
 * usage: disk append|dsync FILE BLOCK 1 OPERATIONS WARMUP         appends and waits: fdatasync after each, or O_DSYNC
 *        disk randread|randwrite FILE BLOCK DEPTH OPERATIONS WARMUP    blocks of the file that is there, with O_DIRECT;
 *        disk seqread|seqwrite FILE BLOCK DEPTH OPERATIONS WARMUP      by io_uring where several are to be in flight
 *
 * Says that it is ready, does a burst of so many for each line that it reads, and prints a line: the nanoseconds that all measured
 * operations took, and then those of each. One reading of the clock ends an operation and begins the next. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "ring.h"

enum { PAGE = 4096, HUGE_PAGE = 2 << 20, WORTH_A_HUGE_PAGE = 64 << 10 };

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000ull + time.tv_nsec;
}

/* The next random number (SplitMix64). */
static uint64_t draw(void) {
    static uint64_t state = 1;
    uint64_t word = state += 0x9E3779B97F4A7C15u;
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9u;
    word = (word ^ (word >> 27)) * 0x94D049BB133111EBu;
    return word ^ (word >> 31);
}

static int file, appends, waits, reads, sequential;
static size_t block, blocks, depth, bodies;
static char *pool;
static uint64_t *took;
/* With several in flight. */
static struct ring ring;
static uint64_t *begun;
static size_t *idle, idle_count;

/* Where the operation of this number is to be done. */
static uint64_t place_of(uint64_t number) {
    static uint64_t next;
    return block * (appends ? number : sequential ? next++ % blocks : draw() % blocks);
}

/* The block of an operation, in one of the slot's own, with what makes it different from the last. */
static char *body_of(size_t slot, uint64_t number) {
    char *body = pool + (slot * bodies + number % bodies) * block;
    if (!reads)
        memcpy(body, &number, sizeof number);
    return body;
}

/* A burst with a system call an operation; what all took. */
static uint64_t one_by_one(long operations, long warmup) {
    uint64_t started = now(), last = started;
    for (long nth = -warmup; nth < operations; nth++) {
        uint64_t number = nth + warmup, place = place_of(number);
        char *body = body_of(0, number);
        ssize_t moved = reads ? pread(file, body, block, place) : pwrite(file, body, block, place);
        if (moved != (ssize_t)block || (waits && fdatasync(file)))
            err(1, "block at %lu", (unsigned long)place);
        uint64_t ended = now();
        if (nth >= 0)
            took[nth] = ended - last;
        else
            started = ended;
        last = ended;
    }
    return last - started;
}

/* A burst with several in flight: one that has ended is replaced at once, and what is left at the end is waited for and not counted. */
static uint64_t in_flight(long operations, long warmup) {
    uint64_t started = now(), last = started, number = 0;
    for (long nth = -warmup; nth < operations; nth++) {
        while (idle_count > 0) {
            size_t slot = idle[--idle_count];
            begun[slot] = last;
            ring_push(&ring, reads, file, slot, body_of(slot, number), block, place_of(number));
            number++;
        }
        long ended;
        do
            ring_enter(&ring);
        while ((ended = ring_next(&ring, block)) < 0);
        last = now();
        idle[idle_count++] = ended;
        if (nth >= 0)
            took[nth] = last - begun[ended];
        else
            started = last;
    }
    while (idle_count < depth) {
        long ended = ring_next(&ring, block);
        if (ended < 0)
            ring_enter(&ring);
        else
            idle[idle_count++] = ended;
    }
    return last - started;
}

int main(int count, char **words) {
    long operations = count == 7 ? atol(words[5]) : 0, warmup = count == 7 ? atol(words[6]) : 0;
    block = count == 7 ? atol(words[3]) : 0;
    depth = count == 7 ? atol(words[4]) : 0;
    if (operations < 1 || warmup < 1 || block < PAGE || depth < 1)
        errx(2, "usage: disk append|dsync|randread|randwrite|seqread|seqwrite FILE BLOCK DEPTH OPERATIONS WARMUP");
    const char *work = words[1];
    waits = !strcmp(work, "append");
    appends = waits || !strcmp(work, "dsync");
    sequential = !strncmp(work, "seq", 3);
    reads = !strcmp(work, "randread") || !strcmp(work, "seqread");
    if (!appends && !reads && strcmp(work, "randwrite") && strcmp(work, "seqwrite"))
        errx(2, "%s is no work", work);
    if (appends && depth > 1)
        errx(2, "%s waits for each", work);

    file = open(words[2], O_RDWR | (appends ? O_CREAT | O_TRUNC : O_DIRECT) | (appends && !waits ? O_DSYNC : 0), 0644);
    struct stat its;
    if (file < 0 || fstat(file, &its))
        err(1, "%s", words[2]);
    blocks = its.st_size / block;
    if (!appends && blocks < depth)
        errx(1, "%s has fewer than %zu blocks", words[2], depth);

    /* As many buffers as tarebench has, in huge pages where it asks for them. */
    bodies = (1 << 20) / block / depth;
    bodies = reads ? 1 : bodies < 2 ? 2 : bodies > 64 ? 64 : bodies;
    size_t length = depth * bodies * block, whole = (length + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    int huge = length >= WORTH_A_HUGE_PAGE;
    pool = aligned_alloc(huge ? HUGE_PAGE : PAGE, huge ? whole : length);
    begun = calloc(depth, sizeof *begun);
    idle = calloc(depth, sizeof *idle);
    took = malloc(operations * sizeof *took);
    if (!pool || !begun || !idle || !took)
        err(1, "no memory");
    if (depth > 1)
        ring = ring_of(depth);
    while (idle_count < depth) {
        idle[idle_count] = idle_count;
        idle_count++;
    }
    if (huge)
        madvise(pool, whole, MADV_HUGEPAGE);
    /* Touched before, so that no page of it is faulted in while time is taken. */
    memset(took, 0xff, operations * sizeof *took);
    for (uint64_t *word = (uint64_t *)pool; word < (uint64_t *)(pool + length); word++)
        *word = draw();

    puts("ready");
    fflush(stdout);
    for (char line[8]; fgets(line, sizeof line, stdin);) {
        /* As tarebench does before a burst. */
        if ((appends && ftruncate(file, 0)) || fsync(file))
            err(1, "%s", words[2]);
        printf("%lu", (unsigned long)(depth > 1 ? in_flight(operations, warmup) : one_by_one(operations, warmup)));
        for (long nth = 0; nth < operations; nth++)
            printf(" %lu", (unsigned long)took[nth]);
        puts("");
        fflush(stdout);
    }
}
