/* What sqlite/commit and sqlite/lookup do, written against SQLite's own interface: the peer that scripts/bench compares them with.
 *
 * usage: sqlite commit|lookup FILE OPERATIONS WARMUP BATCH
 *
 * Same schema, same PRAGMAs in the same order, same statements, same sizes, same flags of sqlite3_open_v2 as the workloads have
 * with their default settings; and the same way to take time: one reading of CLOCK_MONOTONIC ends an operation (or a batch)
 * and begins the next. It is linked with the very object that tarebench is linked with. Where a workload changes, this has to.
 *
 * Says that it is ready, does a burst of so many for each line that it reads, and prints a line: the nanoseconds that all measured
 * operations took, and then those of each reading, per operation.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "sqlite3.h"

enum { VALUE = 100, PAGE = 4096, ROWS = 1000 };

static sqlite3 *db;

static void fail(const char *what) {
    fprintf(stderr, "can't %s: %s\n", what, db ? sqlite3_errmsg(db) : "no database");
    exit(1);
}

static void run(const char *sql) {
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK) fail(sql);
}

static sqlite3_stmt *prepare(const char *sql) {
    sqlite3_stmt *statement;
    if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK) fail(sql);
    return statement;
}

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* The finalizer of SplitMix64: all random numbers here come of it. */
static uint64_t mix(uint64_t word) {
    word += 0x9E3779B97F4A7C15u;
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9u;
    word = (word ^ (word >> 27)) * 0x94D049BB133111EBu;
    return word ^ (word >> 31);
}

static void fill(uint64_t seed, unsigned char *bytes, size_t length) {
    for (size_t at = 0; at < length; at += 8) {
        uint64_t word = mix(seed + at);
        memcpy(bytes + at, &word, length - at < 8 ? length - at : 8);
    }
}

/* Runs a statement that gives no row. */
static void execute(sqlite3_stmt *statement) {
    if (sqlite3_step(statement) != SQLITE_DONE) fail(sqlite3_sql(statement));
    sqlite3_reset(statement);
}

static void flush(const char *path) {
    int file = open(path, O_RDONLY);
    if (file < 0) return;
    if (fsync(file) != 0) fail("flush a file");
    close(file);
}

/* Begins the log anew at the length that it has, and forces everything to the device. */
static void settle(const char *path) {
    char log[4096];
    snprintf(log, sizeof log, "%s-wal", path);
    run("PRAGMA wal_checkpoint(RESTART)");
    flush(path);
    flush(log);
}

/* The stopwatch: a part of `operations` operations, one reading for each `batch`. */
struct part {
    uint64_t operations, batch, *readings, count, elapsed;
};

static void lap(struct part *part, uint64_t in_batch, uint64_t *previous) {
    uint64_t time = now();
    part->readings[part->count++] = (time - *previous + in_batch / 2) / in_batch;
    *previous = time;
}

static sqlite3_stmt *insert, *lookup;
static uint64_t next_row, rows, draws;

static void commit_one(void) {
    unsigned char value[VALUE];
    fill(next_row << 8, value, VALUE);
    sqlite3_bind_int64(insert, 1, (sqlite3_int64)next_row++);
    sqlite3_bind_blob(insert, 2, value, VALUE, SQLITE_STATIC);
    execute(insert);
}

static sqlite3_int64 key_of(uint64_t row) { return (sqlite3_int64)(row << 20 | mix(row) >> 44); }

static void lookup_one(void) {
    uint64_t row = (uint64_t)(((unsigned __int128)mix(draws++) * rows) >> 64);
    sqlite3_int64 key = key_of(row);
    uint64_t mark = mix((uint64_t)key);
    sqlite3_bind_int64(lookup, 1, key);
    if (sqlite3_step(lookup) != SQLITE_ROW) fail("find a row");
    const void *value = sqlite3_column_blob(lookup, 0);
    if (sqlite3_column_bytes(lookup, 0) != VALUE || memcmp(value, &mark, 8) != 0) fail("find the right value");
    sqlite3_reset(lookup);
}

static void measure(struct part *part, void (*operation)(void)) {
    uint64_t begun = now(), previous = begun, in_batch = 0;
    for (uint64_t done = 1; done <= part->operations; done++) {
        operation();
        if (++in_batch == part->batch || done == part->operations) {
            lap(part, in_batch, &previous);
            in_batch = 0;
        }
    }
    part->elapsed = previous - begun;
}

/* As sqlite/commit: 1000 rows, pages to grow into, and a log that has its full size. */
static void lay_out_commit(const char *path) {
    enum { BALLAST = 1050 * PAGE };
    unsigned char *ballast = malloc(BALLAST);
    run("PRAGMA page_size = 4096; PRAGMA journal_mode = wal; BEGIN IMMEDIATE; COMMIT; PRAGMA cache_size = -2000;"
        "PRAGMA synchronous = OFF;"
        "CREATE TABLE entry (id INTEGER PRIMARY KEY, value BLOB NOT NULL);"
        "CREATE TABLE ballast (value BLOB NOT NULL);"
        "BEGIN");
    insert = prepare("INSERT INTO entry (id, value) VALUES (?1, ?2)");
    while (next_row < ROWS) commit_one();
    sqlite3_stmt *heavy = prepare("INSERT INTO ballast (value) VALUES (?1)");
    fill(1, ballast, BALLAST);
    sqlite3_bind_blob(heavy, 1, ballast, BALLAST, SQLITE_STATIC);
    execute(heavy);
    sqlite3_finalize(heavy);
    sqlite3_finalize(insert);
    run("COMMIT; DROP TABLE ballast; PRAGMA synchronous = 2");
    settle(path);
    insert = prepare("INSERT INTO entry (id, value) VALUES (?1, ?2)");
    free(ballast);
}

/* As before the first burst: what it inserted is gone, and the log begins anew. */
static void begin_anew(const char *path) {
    char remove[64];
    snprintf(remove, sizeof remove, "DELETE FROM entry WHERE id >= %d", ROWS);
    run(remove);
    next_row = ROWS;
    settle(path);
}

/* As sqlite/lookup: a database of 4 MiB in a cache of 8 MiB. */
static void lay_out_lookup(const char *path) {
    rows = (4u << 20) / 152;
    run("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -16384;"
        "BEGIN;"
        "CREATE TABLE entry (id INTEGER PRIMARY KEY, key INTEGER NOT NULL, amount INTEGER NOT NULL, value BLOB NOT NULL);"
        "CREATE UNIQUE INDEX entry_key ON entry (key)");
    sqlite3_stmt *fill_in = prepare("INSERT INTO entry (id, key, amount, value) VALUES (?1, ?2, ?3, ?4)");
    for (uint64_t row = 0; row < rows; row++) {
        unsigned char value[VALUE];
        uint64_t mark = mix((uint64_t)key_of(row));
        fill(row << 8, value, VALUE);
        memcpy(value, &mark, 8);
        sqlite3_bind_int64(fill_in, 1, (sqlite3_int64)row);
        sqlite3_bind_int64(fill_in, 2, key_of(row));
        sqlite3_bind_int64(fill_in, 3, (sqlite3_int64)(mix(row + 1) >> 24) - (sqlite3_int64)(mix(row) >> 24));
        sqlite3_bind_blob(fill_in, 4, value, VALUE, SQLITE_STATIC);
        execute(fill_in);
    }
    sqlite3_finalize(fill_in);
    run("COMMIT; PRAGMA journal_mode = wal; BEGIN IMMEDIATE; COMMIT; PRAGMA synchronous = 2; PRAGMA cache_size = -8192");
    settle(path);
    run("SELECT sum(amount) FROM entry NOT INDEXED; SELECT count(key) FROM entry INDEXED BY entry_key");
    lookup = prepare("SELECT value FROM entry WHERE key = ?1");
}

int main(int count, char **words) {
    if (count != 6) {
        fprintf(stderr, "usage: sqlite commit|lookup FILE OPERATIONS WARMUP BATCH\n");
        return 2;
    }
    int commits = strcmp(words[1], "commit") == 0;
    const char *path = words[2];
    uint64_t operations = strtoull(words[3], NULL, 10), warmup = strtoull(words[4], NULL, 10);
    uint64_t batch = strtoull(words[5], NULL, 10);
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_URI;
    if (sqlite3_open_v2(path, &db, flags, NULL) != SQLITE_OK) fail("open the database");
    sqlite3_extended_result_codes(db, 1);
    sqlite3_busy_timeout(db, 5000);
    run("PRAGMA temp_store = 2");
    if (commits) lay_out_commit(path); else lay_out_lookup(path);
    /* Touched before, so that no page of it is faulted in while time is taken. */
    uint64_t *readings = calloc(operations + warmup + 2, sizeof *readings);
    memset(readings, 1, (operations + warmup + 2) * sizeof *readings);
    void (*operation)(void) = commits ? commit_one : lookup_one;
    puts("ready");
    fflush(stdout);
    for (char line[8]; fgets(line, sizeof line, stdin);) {
        if (commits) begin_anew(path);
        struct part first = {warmup, batch, readings, 0, 0}, second = {operations, batch, readings, 0, 0};
        measure(&first, operation);
        measure(&second, operation);
        printf("%llu", (unsigned long long)second.elapsed);
        for (uint64_t i = 0; i < second.count; i++) printf(" %llu", (unsigned long long)readings[i]);
        puts("");
        fflush(stdout);
    }
    sqlite3_finalize(insert);
    sqlite3_finalize(lookup);
    sqlite3_close(db);
    return 0;
}
