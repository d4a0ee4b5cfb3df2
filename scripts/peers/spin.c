/* What computing costs here in CPU time: `scripts/bench --truth` runs it behind a quota and without one. A CPU that rests in between
 * works slower for a while when it goes on, so the same work takes more CPU time; how long that takes to be granted is the quota's word.
 *
 * usage: spin MILLISECONDS    prints the nanoseconds of CPU time of a turn, over so much of it */

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { TURNS = 100000, MOST_MS = 100000 };

static double cpu_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec * 1e9 + now.tv_nsec;
}

int main(int count, char **words) {
    double ms = count == 2 ? atof(words[1]) : 0;
    if (!(ms >= 1 && ms <= MOST_MS)) {
        fprintf(stderr, "usage: spin MILLISECONDS (1 to %d)\n", MOST_MS);
        return 2;
    }
    volatile unsigned long state = 1;
    double begun = cpu_ns(), ended = begun;
    long turns = 0;
    for (; ended - begun < ms * 1e6; ended = cpu_ns(), turns += TURNS)
        for (long turn = 0; turn < TURNS; turn++)
            state = state * 6364136223846793005UL + 1442695040888963407UL;
    printf("%.5f\n", (ended - begun) / turns);
}
