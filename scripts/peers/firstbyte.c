/* Starts a program as tarebench starts an environment (process group of its own, pinned, limited, pipes) and prints the
 * nanoseconds from before the fork to the byte 0x1E on its output.
 *
 * usage: firstbyte SECONDS CPU OWN-CPU [--enter FILE | --hide DIRECTORY]... -- PROGRAM [ARGUMENT]...
 *
 * --enter writes 0 to a file, which enters a cgroup; --hide shows the program an empty directory in that place. The program is
 * then given time to end by itself, since an engine tidies up; what is left in its process group after SECONDS is killed.
 * Ends with 0 only if the byte came. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SIGN = 0x1e };

static long long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void die(const char *what)
{
    fprintf(stderr, "firstbyte: can't %s: %s\n", what, strerror(errno));
    exit(125);
}

static void pin(const char *cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(atoi(cpu), &set);
    if (sched_setaffinity(0, sizeof set, &set))
        die("pin to the CPU");
}

static void enter(const char *file)
{
    int group = open(file, O_WRONLY | O_CLOEXEC);
    if (group < 0 || write(group, "0", 1) != 1)
        die(file);
    close(group);
}

/* An empty directory in place of this one, in a mount namespace of our own. */
static void hide(const char *directory)
{
    if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_SLAVE, NULL)
        || mount("none", directory, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755"))
        die(directory);
}

/* Reads until the byte has come (1), the output has ended (0) or the time is over (-1). */
static int await(int output, long long until)
{
    char bytes[4096];
    for (;;) {
        long long left = until - now();
        struct pollfd ready = { .fd = output, .events = POLLIN };
        if (left <= 0 || poll(&ready, 1, (int)(left / 1000000) + 1) == 0)
            return -1;
        ssize_t count = read(output, bytes, sizeof bytes);
        if (count > 0 && memchr(bytes, SIGN, count))
            return 1;
        if (count == 0 || (count < 0 && errno != EINTR))
            return 0;
    }
}

int main(int count, char **words)
{
    int at = 4;
    if (count < 6)
        return fprintf(stderr, "usage: firstbyte SECONDS CPU OWN-CPU [--enter FILE | --hide DIRECTORY]... -- PROGRAM [ARGUMENT]...\n"), 2;
    pin(words[3]);
    while (at + 1 < count && (!strcmp(words[at], "--hide") || !strcmp(words[at], "--enter")))
        at += 2;
    if (strcmp(words[at], "--") || at + 1 >= count)
        return fprintf(stderr, "firstbyte: no -- before a program\n"), 2;
    int in[2], out[2];
    if (pipe(in) || pipe(out))
        die("make pipes");
    pid_t parent = getpid();
    long long begun = now(), until = begun + atoll(words[1]) * 1000000000LL;
    pid_t child = fork();
    if (child < 0)
        die("fork");
    if (!child) {
        if (setpgid(0, 0) || dup2(in[0], 0) < 0 || dup2(out[1], 1) < 0)
            die("arrange its pipes");
        close(in[0]), close(in[1]), close(out[0]), close(out[1]);
        for (int i = 4; i < at; i += 2)
            (strcmp(words[i], "--hide") ? enter : hide)(words[i + 1]);
        /* After the groups: entering a CPU set resets it. */
        pin(words[2]);
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent)
            die("tie it to us");
        execvp(words[at + 1], words + at + 1);
        die(words[at + 1]);
    }
    close(in[0]), close(out[1]);
    int came = await(out[0], until);
    long long taken = now() - begun;
    close(in[1]);
    while (came > 0 && await(out[0], until) > 0)
        ;
    siginfo_t ended = { 0 };
    while (now() < until && !waitid(P_PID, child, &ended, WEXITED | WNOHANG | WNOWAIT) && !ended.si_pid)
        usleep(1000);
    /* Its id is still its own: it has not been reaped. */
    kill(-child, SIGKILL);
    waitpid(child, NULL, 0);
    if (came <= 0)
        return fprintf(stderr, "firstbyte: %s\n", came ? "no byte in time" : "it ended without the byte"), 1;
    printf("%lld\n", taken);
    return 0;
}
