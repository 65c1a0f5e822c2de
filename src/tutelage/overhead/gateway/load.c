/* The load generator: a closed loop over keep-alive connections, one epoll loop.
 *
 * load PORT CONNECTIONS SECONDS REQUESTS FIRST PAUSE_US PATIENCE_S HEADER CALLS RECORDS
 *
 * CALLS holds whole HTTP requests, each after its length as 4 bytes; they are sent in turn, from
 * number FIRST on, until SECONDS have passed or REQUESTS were sent (0: no limit); what is in
 * flight then gets PATIENCE_S more. HEADER is the answer's header with a number of milliseconds to
 * note. RECORDS gets one Record a request. Prints the seconds from the first to the last byte. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST_HEAD 32768
#define TAIL 32

typedef struct {
    uint64_t started_ns, latency_ns, first_ns;
    int32_t header_us; /* -1: no such header */
    uint32_t events;
    uint16_t status; /* 0: the connection broke, or patience ended */
    uint16_t whole;
    uint32_t unused;
} Record;

typedef enum { HEAD, SIZED, CHUNK_SIZE, CHUNK, CHUNK_END, TRAILER, UNTIL_CLOSE } State;

typedef struct {
    int file, busy, is_stream, after_newline;
    State state;
    char head[MOST_HEAD], tail[TAIL];
    size_t head_length, left, line, to_send;
    const char *call;
    uint64_t wake_ns;
    Record record;
} Connection;

static int epoll_file, port, count;
static Connection *all;
static char **calls;
static uint32_t *lengths;
static size_t call_count, next_call, sent_count, most_requests;
static uint64_t begin_ns, stop_ns, last_ns, pause_ns;
static const char *header_name;
static FILE *records;

static uint64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + time.tv_nsec;
}

static void die(const char *what) { perror(what); exit(1); }

static void load_calls(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) die(path);
    size_t room = 0;
    uint32_t length;
    while (fread(&length, sizeof length, 1, file) == 1) {
        if (call_count == room) {
            room = room ? 2 * room : 64;
            calls = realloc(calls, room * sizeof *calls);
            lengths = realloc(lengths, room * sizeof *lengths);
        }
        if (!calls || !lengths || !(calls[call_count] = malloc(length))) die("malloc");
        if (fread(calls[call_count], 1, length, file) != length) die(path);
        lengths[call_count++] = length;
    }
    fclose(file);
    if (!call_count) { fprintf(stderr, "%s holds no call\n", path); exit(2); }
}

static void watch(Connection *one, int operation) {
    struct epoll_event event = {.events = EPOLLIN | (one->to_send ? EPOLLOUT : 0),
                                .data.ptr = one};
    if (epoll_ctl(epoll_file, operation, one->file, &event)) die("epoll_ctl");
}

static int connected(Connection *one) {
    int yes = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    one->file = socket(AF_INET, SOCK_STREAM, 0);
    if (one->file < 0) die("socket");
    one->to_send = 0;
    if (connect(one->file, (struct sockaddr *)&address, sizeof address)) {
        close(one->file);
        one->file = -1;
        return 0;
    }
    setsockopt(one->file, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    watch(one, EPOLL_CTL_ADD);
    return 1;
}

static void ended(Connection *one, int whole) {
    uint64_t now = now_ns();
    one->record.latency_ns = now - one->record.started_ns;
    one->record.whole = whole;
    fwrite(&one->record, sizeof one->record, 1, records);
    last_ns = now;
    one->busy = 0;
    one->wake_ns = now + pause_ns;
}

static int saw_end(const Connection *one) {
    return memmem(one->tail, TAIL, "[DONE]", 6) || memmem(one->tail, TAIL, "message_stop", 12);
}

static void broke(Connection *one) {
    if (one->file >= 0) close(one->file);
    one->file = -1;
    if (one->busy) {
        int until_close = one->state == UNTIL_CLOSE;
        if (!until_close) one->record.status = 0;
        ended(one, until_close && (!one->is_stream || saw_end(one)));
    }
}

static void push(Connection *one) {
    ssize_t took = send(one->file, one->call, one->to_send, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (took < 0) {
        if (errno != EAGAIN) broke(one);
        return;
    }
    one->call += took;
    one->to_send -= took;
}

static int may_start(void) {
    return (!most_requests || sent_count < most_requests) && (!stop_ns || now_ns() < stop_ns);
}

static void start(Connection *one) {
    size_t index = next_call++ % call_count;
    sent_count++;
    memset(&one->record, 0, sizeof one->record);
    one->record.header_us = -1;
    one->state = HEAD;
    one->head_length = one->line = one->after_newline = 0;
    memset(one->tail, 0, TAIL);
    one->busy = 1;
    one->record.started_ns = now_ns();
    if (one->file < 0 && !connected(one)) {
        broke(one);
        /* Nobody listens: do not spin. */
        one->wake_ns = now_ns() + 10000000u;
        return;
    }
    one->call = calls[index];
    one->to_send = lengths[index];
    push(one);
    if (one->file >= 0 && one->to_send) watch(one, EPOLL_CTL_MOD);
}

static const char *header(const char *head, const char *name) {
    size_t length = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line + 2, "\r\n"))
        if (length && !strncasecmp(line + 2, name, length) && line[2 + length] == ':') {
            line += 3 + length;
            while (*line == ' ') line++;
            return line;
        }
    return NULL;
}

static void body(Connection *one, const char *bytes, size_t length) {
    if (!length) return;
    if (!one->record.first_ns) one->record.first_ns = now_ns() - one->record.started_ns;
    if (!one->is_stream) return;
    for (size_t index = 0; index < length; index++) {
        if (bytes[index] == '\r') continue;
        if (bytes[index] != '\n') { one->after_newline = 0; continue; }
        if (one->after_newline) one->record.events++;
        one->after_newline = !one->after_newline;
    }
    size_t kept = length < TAIL ? length : TAIL;
    memmove(one->tail, one->tail + kept, TAIL - kept);
    memcpy(one->tail + TAIL - kept, bytes + length - kept, kept);
}

/* Returns 0 if the answer is over. */
static int read_head(Connection *one) {
    const char *found;
    one->head[one->head_length] = 0;
    one->record.status = atoi(one->head + 9);
    found = header(one->head, "content-type");
    one->is_stream = found && !strncasecmp(found, "text/event-stream", 17);
    if ((found = header(one->head, header_name))) one->record.header_us = strtod(found, NULL) * 1e3;
    if ((found = header(one->head, "transfer-encoding")) && !strncasecmp(found, "chunked", 7)) {
        one->state = CHUNK_SIZE;
        one->left = one->line = 0;
    } else if ((found = header(one->head, "content-length"))) {
        one->state = SIZED;
        one->left = strtoul(found, NULL, 10);
        return one->left > 0;
    } else {
        one->state = UNTIL_CLOSE;
    }
    return 1;
}

static int hex(char digit) {
    if (digit >= '0' && digit <= '9') return digit - '0';
    digit |= 32;
    return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

/* Returns 0 if the answer is over. */
static int fed(Connection *one, const char *at, const char *end) {
    while (at < end) {
        size_t there = end - at;
        if (one->state == HEAD) {
            if (one->head_length == MOST_HEAD - 1) return 0;
            one->head[one->head_length++] = *at++;
            if (one->head_length >= 4 &&
                !memcmp(one->head + one->head_length - 4, "\r\n\r\n", 4) && !read_head(one))
                return 0;
        } else if (one->state == UNTIL_CLOSE) {
            body(one, at, there);
            return 1;
        } else if (one->state == SIZED || one->state == CHUNK) {
            size_t mine = there < one->left ? there : one->left;
            body(one, at, mine);
            at += mine;
            one->left -= mine;
            if (!one->left && one->state == SIZED) return 0;
            if (!one->left) one->state = CHUNK_END;
        } else if (one->state == CHUNK_SIZE) {
            char letter = *at++;
            if (letter == '\n') {
                one->state = one->left ? CHUNK : TRAILER;
                one->line = 0;
            } else if (hex(letter) >= 0 && !one->line) {
                one->left = one->left * 16 + hex(letter);
            } else {
                one->line = 1; /* An extension, or the end of the line. */
            }
        } else if (one->state == CHUNK_END) {
            if (*at++ == '\n') { one->state = CHUNK_SIZE; one->left = one->line = 0; }
        } else {
            char letter = *at++;
            if (letter == '\n' && !one->line) return 0;
            one->line = letter == '\n' ? 0 : one->line + (letter != '\r');
        }
    }
    return 1;
}

static void receive(Connection *one) {
    static char buffer[1 << 17];
    ssize_t took = recv(one->file, buffer, sizeof buffer, MSG_DONTWAIT);
    if (took < 0 && errno == EAGAIN) return;
    if (took <= 0 || !one->busy) { broke(one); return; }
    if (fed(one, buffer, buffer + took)) return;
    const char *last = header(one->head, "connection");
    int closes = last && !strncasecmp(last, "close", 5);
    ended(one, !one->is_stream || saw_end(one));
    if (closes) broke(one);
}

int main(int argument_count, char **arguments) {
    if (argument_count != 11) { fprintf(stderr, "usage: see load.c\n"); return 2; }
    port = atoi(arguments[1]);
    count = atoi(arguments[2]);
    double seconds = strtod(arguments[3], NULL), patience_s = strtod(arguments[7], NULL);
    most_requests = strtoul(arguments[4], NULL, 10);
    next_call = strtoul(arguments[5], NULL, 10);
    pause_ns = strtoul(arguments[6], NULL, 10) * 1000u;
    header_name = arguments[8];
    load_calls(arguments[9]);
    if (!(records = fopen(arguments[10], "wb"))) die(arguments[10]);
    epoll_file = epoll_create1(0);
    if (epoll_file < 0 || !(all = calloc(count, sizeof *all))) die("start");
    for (int index = 0; index < count; index++)
        if (!connected(&all[index])) { fprintf(stderr, "nobody listens at %d\n", port); return 1; }
    begin_ns = last_ns = now_ns();
    stop_ns = seconds > 0 ? begin_ns + (uint64_t)(seconds * 1e9) : 0;
    uint64_t over_ns = 0;
    for (;;) {
        int busy = 0, waiting = 0, more = may_start();
        uint64_t now = now_ns();
        for (int index = 0; index < count; index++) {
            Connection *one = &all[index];
            if (!one->busy && more && one->wake_ns <= now) { start(one); more = may_start(); }
            busy += one->busy;
            waiting += !one->busy && more;
        }
        if (!busy && !waiting) break;
        if (!more && !over_ns) over_ns = now + (uint64_t)(patience_s * 1e9);
        if (over_ns && now > over_ns) {
            for (int index = 0; index < count; index++) broke(&all[index]);
            break;
        }
        struct epoll_event ready[256];
        int found = epoll_wait(epoll_file, ready, 256, waiting ? 1 : 20);
        for (int index = 0; index < found; index++) {
            Connection *one = ready[index].data.ptr;
            if (one->file >= 0 && one->to_send && ready[index].events & EPOLLOUT) {
                push(one);
                if (one->file >= 0 && !one->to_send) watch(one, EPOLL_CTL_MOD);
            }
            if (one->file >= 0 && ready[index].events & ~EPOLLOUT) receive(one);
        }
    }
    fclose(records);
    printf("%.9f\n", (last_ns - begin_ns) / 1e9);
    return 0;
}
