/* What a system call costs here: `scripts/bench --truth` runs it behind a filter of system calls and without one, so that the
 * filter's cost is known from another program than the one that is to find it.
 *
 * usage: getppid CHUNKS    prints nanoseconds of a call, as the median over so many chunks of 20 ms */

#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 1000, FEW = 1000 };
/* As long as the bursts of the agent beside which it stands: what interrupts a long row of calls is in both. */
static const double CHUNK_NS = 20e6;

static double each_of(long calls) {
    struct timespec begun, ended;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    for (long call = 0; call < calls; call++)
        syscall(SYS_getppid);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    return ((ended.tv_sec - begun.tv_sec) * 1e9 + (ended.tv_nsec - begun.tv_nsec)) / calls;
}

static int ascending(const void *a, const void *b) {
    double difference = *(const double *)a - *(const double *)b;
    return (difference > 0) - (difference < 0);
}

int main(int count, char **words) {
    static double each[MOST];
    int chunks = count == 2 ? atoi(words[1]) : 0;
    if (chunks < 1 || chunks > MOST) {
        fprintf(stderr, "usage: getppid CHUNKS (1 to %d)\n", MOST);
        return 2;
    }
    long calls = CHUNK_NS / each_of(FEW) + 1;
    for (int chunk = 0; chunk < chunks; chunk++)
        each[chunk] = each_of(calls);
    qsort(each, chunks, sizeof *each, ascending);
    printf("%.2f\n", each[chunks / 2]);
}
