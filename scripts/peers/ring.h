/* Several operations in flight by io_uring, with nothing but its system calls. */

#include <err.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

struct ring {
    int fd;
    unsigned waiting, *sq_tail, *cq_head, *cq_tail, sq_mask, cq_mask;
    struct io_uring_sqe *entries;
    struct io_uring_cqe *ended;
};

static void *mapped(int fd, size_t length, off_t what) {
    void *at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, what);
    if (at == MAP_FAILED)
        err(1, "io_uring's memory");
    return at;
}

/* Headers before Linux 6.1 don't have them. */
#ifndef IORING_SETUP_COOP_TASKRUN
#define IORING_SETUP_COOP_TASKRUN (1U << 8)
#endif
#ifndef IORING_SETUP_SINGLE_ISSUER
#define IORING_SETUP_SINGLE_ISSUER (1U << 12)
#endif
#ifndef IORING_SETUP_DEFER_TASKRUN
#define IORING_SETUP_DEFER_TASKRUN (1U << 13)
#endif

/* Set up as tarebench and fio set theirs up: with less where the kernel doesn't know a flag. */
static struct ring ring_of(unsigned depth) {
    unsigned flags[] = {IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, IORING_SETUP_COOP_TASKRUN, 0};
    struct io_uring_params its;
    int fd = -1;
    for (int nth = 0; fd < 0 && nth < 3; nth++) {
        its = (struct io_uring_params){.flags = flags[nth]};
        fd = (int)syscall(SYS_io_uring_setup, depth, &its);
        if (fd < 0 && errno != EINVAL)
            break;
    }
    if (fd < 0)
        err(1, "no io_uring");
    char *queue = mapped(fd, its.sq_off.array + its.sq_entries * sizeof(unsigned), IORING_OFF_SQ_RING);
    char *results = mapped(fd, its.cq_off.cqes + its.cq_entries * sizeof(struct io_uring_cqe), IORING_OFF_CQ_RING);
    unsigned *order = (unsigned *)(queue + its.sq_off.array);
    for (unsigned nth = 0; nth < its.sq_entries; nth++)
        order[nth] = nth;
    return (struct ring){
        .fd = fd,
        .sq_tail = (unsigned *)(queue + its.sq_off.tail),
        .sq_mask = its.sq_entries - 1,
        .cq_head = (unsigned *)(results + its.cq_off.head),
        .cq_tail = (unsigned *)(results + its.cq_off.tail),
        .cq_mask = its.cq_entries - 1,
        .ended = (struct io_uring_cqe *)(results + its.cq_off.cqes),
        .entries = mapped(fd, its.sq_entries * sizeof(struct io_uring_sqe), IORING_OFF_SQES),
    };
}

/* Puts an operation in line, known by its slot. */
static void ring_push(struct ring *ring, int reads, int file, uint64_t slot, void *block, unsigned length, uint64_t offset) {
    unsigned tail = *ring->sq_tail;
    ring->entries[tail & ring->sq_mask] = (struct io_uring_sqe){
        .opcode = reads ? IORING_OP_READ : IORING_OP_WRITE, .fd = file, .addr = (uintptr_t)block, .len = length, .off = offset, .user_data = slot};
    __atomic_store_n(ring->sq_tail, tail + 1, __ATOMIC_RELEASE);
    ring->waiting++;
}

static int ring_ready(struct ring *ring) { return __atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE) != *ring->cq_head; }

/* Hands in what is in line, and waits for something to end where nothing has: one system call. */
static void ring_enter(struct ring *ring) {
    long taken = syscall(SYS_io_uring_enter, ring->fd, ring->waiting, !ring_ready(ring), IORING_ENTER_GETEVENTS, NULL, 0);
    if (taken < 0)
        err(1, "io_uring_enter");
    ring->waiting -= (unsigned)taken;
}

/* The slot of an operation that has ended and moved so many bytes, or -1 where none has. */
static long ring_next(struct ring *ring, unsigned length) {
    if (!ring_ready(ring))
        return -1;
    struct io_uring_cqe *entry = &ring->ended[*ring->cq_head & ring->cq_mask];
    long slot = (long)entry->user_data;
    if (entry->res != (int)length)
        errx(1, "an operation of io_uring answered %d", entry->res);
    __atomic_store_n(ring->cq_head, *ring->cq_head + 1, __ATOMIC_RELEASE);
    return slot;
}
