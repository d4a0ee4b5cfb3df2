/* Blocks to a file and from it, by the plainest calls there are: what disk/fsync, disk/randread and disk/randwrite are held against
 * beside fio, which does more between two of them.
 *
 * usage: disk append|dsync FILE OPERATIONS WARMUP          appends 4 KiB and waits: fdatasync after each, or O_DSYNC
 *        disk randread|randwrite FILE OPERATIONS WARMUP    4 KiB blocks of the file that is there, with O_DIRECT
 *
 * Says that it is ready, does a burst of so many for each line that it reads, and prints a line: the nanoseconds that all measured
 * operations took, and then those of each. One reading of the clock ends an operation and begins the next. */

#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 4096, BODIES = 64 };

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

int main(int count, char **words) {
    long operations = count == 5 ? atol(words[3]) : 0, warmup = count == 5 ? atol(words[4]) : 0;
    if (operations < 1 || warmup < 0)
        errx(2, "usage: disk append|dsync|randread|randwrite FILE OPERATIONS WARMUP");
    int waits = !strcmp(words[1], "append"), appends = waits || !strcmp(words[1], "dsync"), reads = !strcmp(words[1], "randread");
    if (!appends && !reads && strcmp(words[1], "randwrite"))
        errx(2, "%s is no work", words[1]);

    int file = open(words[2], O_RDWR | (appends ? O_CREAT | O_TRUNC : O_DIRECT) | (appends && !waits ? O_DSYNC : 0), 0644);
    struct stat its;
    if (file < 0 || fstat(file, &its))
        err(1, "%s", words[2]);
    if (!appends && its.st_size < BLOCK)
        errx(1, "%s has no whole block", words[2]);

    char *pool = aligned_alloc(BLOCK, BODIES * BLOCK);
    uint64_t *ended = malloc((operations + 1) * sizeof *ended);
    if (!pool || !ended)
        err(1, "no memory");
    /* Touched before, so that no page of it is faulted in while time is taken. */
    memset(ended, 0xff, (operations + 1) * sizeof *ended);
    for (uint64_t *word = (uint64_t *)pool; word < (uint64_t *)(pool + BODIES * BLOCK); word++)
        *word = draw();

    puts("ready");
    fflush(stdout);
    for (char line[8]; fgets(line, sizeof line, stdin);) {
        if (appends && (ftruncate(file, 0) || fsync(file)))
            err(1, "can't empty %s", words[2]);
        for (long nth = -warmup; nth < operations; nth++) {
            if (nth == 0)
                ended[0] = now();
            uint64_t number = nth + warmup, place = appends ? number : draw() % (its.st_size / BLOCK);
            char *block = pool + number % BODIES * BLOCK;
            ssize_t moved;
            if (reads) {
                moved = pread(file, block, BLOCK, place * BLOCK);
            } else {
                memcpy(block, &number, sizeof number);
                moved = pwrite(file, block, BLOCK, place * BLOCK);
            }
            if (moved != BLOCK || (waits && fdatasync(file)))
                err(1, "block %lu of %s", (unsigned long)place, words[2]);
            if (nth >= 0)
                ended[nth + 1] = now();
        }
        printf("%lu", (unsigned long)(ended[operations] - ended[0]));
        for (long nth = 0; nth < operations; nth++)
            printf(" %lu", (unsigned long)(ended[nth + 1] - ended[nth]));
        puts("");
        fflush(stdout);
    }
}
