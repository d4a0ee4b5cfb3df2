/* Messages and blocks over a link, by the plainest calls there are: what net/rr and net/stream are held against beside the field's
 * tools, which do more on the way (a route looked up for each datagram, a poll before each call).
 *
 * usage: net serve ADDRESS PORT                                      both ends of everything below, until it is killed
 *        net tcp|udp ADDRESS PORT SIZE OPERATIONS WARMUP             prints the time of all operations and of each, nanoseconds
 *        net stream ADDRESS PORT SIZE OPERATIONS WARMUP              prints the time of all blocks until the far end has the last
 *
 * It says that it is ready, and does a burst of so many for each line that it reads, with a line for each. */

#include <arpa/inet.h>
#include <err.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MEMORY = 1 << 20 };

/* What a connection begins with. */
struct greeting {
    uint32_t stream, size;
};

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static struct sockaddr_in address_of(char **words) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(words[1]))};
    if (inet_pton(AF_INET, words[0], &address.sin_addr) != 1)
        errx(2, "%s is no address", words[0]);
    return address;
}

static void *buffer_of(size_t size) {
    char *buffer = malloc(size);
    if (!buffer)
        err(1, "no memory");
    for (size_t i = 0; i < size; i++)
        buffer[i] = rand();
    return buffer;
}

static int whole(int socket, char *buffer, size_t size) {
    for (size_t have = 0; have < size;) {
        ssize_t more = read(socket, buffer + have, size - have);
        if (more <= 0)
            return 0;
        have += more;
    }
    return 1;
}

static void put(int socket, const char *buffer, size_t size) {
    for (size_t gone = 0; gone < size;) {
        ssize_t more = write(socket, buffer + gone, size - gone);
        if (more < 0)
            err(1, "write");
        gone += more;
    }
}

static void *connection(void *given) {
    int socket = (intptr_t)given;
    struct greeting greeting;
    if (!whole(socket, (char *)&greeting, sizeof greeting))
        return NULL;
    char *buffer = buffer_of(greeting.size);
    /* The first byte of a block asks for an answer. */
    while (whole(socket, buffer, greeting.size))
        if (!greeting.stream)
            put(socket, buffer, greeting.size);
        else if (buffer[0])
            put(socket, buffer, 1);
    free(buffer);
    close(socket);
    return NULL;
}

static void *datagrams(void *given) {
    static char buffer[65536];
    int socket = (intptr_t)given;
    for (;;) {
        struct sockaddr_in from;
        socklen_t length = sizeof from;
        ssize_t size = recvfrom(socket, buffer, sizeof buffer, 0, (struct sockaddr *)&from, &length);
        if (size < 0)
            return NULL;
        sendto(socket, buffer, size, 0, (struct sockaddr *)&from, length);
    }
}

static int serve(struct sockaddr_in address) {
    int on = 1, tcp = socket(AF_INET, SOCK_STREAM, 0), udp = socket(AF_INET, SOCK_DGRAM, 0);
    pthread_t thread;
    setsockopt(tcp, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(tcp, (void *)&address, sizeof address) || listen(tcp, 16) || bind(udp, (void *)&address, sizeof address))
        err(1, "bind");
    if (pthread_create(&thread, NULL, datagrams, (void *)(intptr_t)udp))
        err(1, "thread");
    for (;;) {
        int one = accept(tcp, NULL, NULL);
        setsockopt(one, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (one < 0 || pthread_create(&thread, NULL, connection, (void *)(intptr_t)one))
            err(1, "connection");
    }
}

int main(int count, char **words) {
    if (count == 4 && !strcmp(words[1], "serve"))
        return serve(address_of(words + 2));
    if (count != 7)
        errx(2, "usage: net serve ADDRESS PORT | net tcp|udp|stream ADDRESS PORT SIZE OPERATIONS WARMUP");
    int datagram = !strcmp(words[1], "udp"), stream = !strcmp(words[1], "stream"), on = 1;
    struct sockaddr_in address = address_of(words + 2);
    struct greeting greeting = {stream, atoi(words[4])};
    uint64_t operations = atol(words[5]), warmup = atol(words[6]);
    uint64_t *each = calloc(operations, sizeof *each);
    /* As many blocks as tarebench sends in turns: one alone would never leave the nearest cache. */
    uint64_t bodies = !stream ? 1 : MEMORY / greeting.size < 2 ? 2 : MEMORY / greeting.size > 16 ? 16 : MEMORY / greeting.size;
    char *pool = buffer_of(bodies * greeting.size), *come = buffer_of(greeting.size);
    memset(each, 0xff, operations * sizeof *each);
    int far = socket(AF_INET, datagram ? SOCK_DGRAM : SOCK_STREAM, 0);
    if (!datagram)
        setsockopt(far, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(far, (void *)&address, sizeof address))
        err(1, "connect");
    if (!datagram)
        put(far, (char *)&greeting, sizeof greeting);
    puts("ready");
    fflush(stdout);
    for (char line[8]; fgets(line, sizeof line, stdin);) {
        uint64_t begun = now(), previous = begun;
        for (uint64_t done = 0; done < warmup + operations; done++) {
            int last = done + 1 == warmup || done + 1 == warmup + operations;
            char *sent = pool + done % bodies * greeting.size;
            sent[0] = stream ? last : 1;
            memcpy(sent + 1, &done, sizeof done);
            if (datagram ? send(far, sent, greeting.size, 0) < 0 : (put(far, sent, greeting.size), 0))
                err(1, "send");
            if (datagram) {
                if (recv(far, come, greeting.size, 0) != (ssize_t)greeting.size)
                    err(1, "recv");
            } else if (!stream || last) {
                if (!whole(far, come, stream ? 1 : greeting.size))
                    err(1, "read");
            }
            uint64_t ended = now();
            if (done >= warmup)
                each[done - warmup] = ended - previous;
            if (done + 1 == warmup)
                begun = ended;
            previous = ended;
        }
        printf("%lu", (unsigned long)(previous - begun));
        for (uint64_t done = 0; !stream && done < operations; done++)
            printf(" %lu", (unsigned long)each[done]);
        puts("");
        fflush(stdout);
    }
}
