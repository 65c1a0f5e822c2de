/* The scripted upstream: one epoll loop that answers every call with fixed bytes.
 *
 * upstream FOLDER FAIL_EVERY
 *
 * FOLDER holds one file an answer; in those of streams a NUL byte stands between two writes.
 * FAIL_EVERY = N > 0: every Nth call gets 500. Prints "port N" and serves until it is killed. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOST_FILES 65536
#define MOST_REQUEST (16u << 20)
#define MOST_CHOICES 9

typedef struct { char *bytes; size_t length; } Text;
typedef struct { Text *writes; int count; } Answer;
typedef struct { int file; Text in, out; size_t room, out_room; } Connection;

static Connection *connections[MOST_FILES];
static Answer chat[MOST_CHOICES], chat_stream, message, message_stream, failure, models, missing;
static int epoll_file;
static unsigned long calls, fail_every;

static void die(const char *what) { perror(what); exit(1); }

static void *grown(void *old, size_t size) {
    void *made = realloc(old, size);
    if (!made) die("realloc");
    return made;
}

static Text read_text(const char *folder, const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    if (!file) die(path);
    Text text = {grown(NULL, 1 << 20), 0};
    text.length = fread(text.bytes, 1, 1 << 20, file);
    fclose(file);
    return text;
}

static Text formatted(const char *head, Text body, const char *tail) {
    Text made = {grown(NULL, strlen(head) + body.length + strlen(tail) + 1), 0};
    memcpy(made.bytes, head, strlen(head));
    memcpy(made.bytes + strlen(head), body.bytes, body.length);
    memcpy(made.bytes + strlen(head) + body.length, tail, strlen(tail));
    made.length = strlen(head) + body.length + strlen(tail);
    return made;
}

static Answer whole(const char *folder, const char *name, const char *status) {
    Text body = read_text(folder, name);
    char head[256];
    snprintf(head, sizeof head,
             "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n", status,
             body.length);
    Answer made = {grown(NULL, sizeof(Text)), 1};
    made.writes[0] = formatted(head, body, "");
    return made;
}

static Answer streamed(const char *folder, const char *name) {
    Text body = read_text(folder, name), none = {NULL, 0};
    Answer made = {grown(NULL, sizeof(Text) * 1024), 0};
    made.writes[made.count++] = formatted(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
        "Transfer-Encoding: chunked\r\n\r\n", none, "");
    char *at = body.bytes, *end = body.bytes + body.length;
    while (at < end && made.count < 1024) {
        char *stop = memchr(at, 0, end - at);
        if (!stop) stop = end;
        char size[32];
        snprintf(size, sizeof size, "%zx\r\n", (size_t)(stop - at));
        Text event = {at, stop - at};
        made.writes[made.count++] = formatted(size, event, stop == end ? "\r\n0\r\n\r\n" : "\r\n");
        at = stop + 1;
    }
    return made;
}

static void watch(Connection *one, int operation) {
    struct epoll_event event = {.events = EPOLLIN | (one->out.length ? EPOLLOUT : 0),
                                .data.fd = one->file};
    if (epoll_ctl(epoll_file, operation, one->file, &event)) die("epoll_ctl");
}

static void forget(Connection *one) {
    connections[one->file] = NULL;
    close(one->file);
    free(one->in.bytes);
    free(one->out.bytes);
    free(one);
}

/* Sends at once; what the socket does not take is kept in order. */
static int sent(Connection *one, Text text) {
    size_t done = 0;
    if (!one->out.length) {
        ssize_t took = send(one->file, text.bytes, text.length, MSG_NOSIGNAL);
        if (took < 0 && errno != EAGAIN) return 0;
        done = took < 0 ? 0 : (size_t)took;
    }
    if (done < text.length) {
        size_t left = text.length - done;
        if (one->out.length + left > one->out_room) {
            one->out_room = 2 * (one->out.length + left);
            one->out.bytes = grown(one->out.bytes, one->out_room);
        }
        memcpy(one->out.bytes + one->out.length, text.bytes + done, left);
        one->out.length += left;
    }
    return 1;
}

static int answered(Connection *one, const Answer *answer) {
    int was_waiting = one->out.length > 0;
    for (int index = 0; index < answer->count; index++)
        if (!sent(one, answer->writes[index])) return 0;
    if (!was_waiting && one->out.length) watch(one, EPOLL_CTL_MOD);
    return 1;
}

static int has(const char *bytes, size_t length, const char *word) {
    return memmem(bytes, length, word, strlen(word)) != NULL;
}

static int choices(const char *body, size_t length) {
    const char *found = memmem(body, length, "\"n\":", 4);
    if (!found) return 1;
    long n = strtol(found + 4, NULL, 10);
    return n >= 1 && n < MOST_CHOICES ? (int)n : 1;
}

static const Answer *chosen(const char *head, size_t head_length, const char *body, size_t length) {
    const char *line_end = memchr(head, '\r', head_length);
    size_t line = line_end ? (size_t)(line_end - head) : head_length;
    if (has(head, line, "GET ")) return has(head, line, "/models") ? &models : &missing;
    int is_chat = has(head, line, "/chat/completions"), is_message = has(head, line, "/messages");
    if (!is_chat && !is_message) return &missing;
    if (fail_every && ++calls % fail_every == 0) return &failure;
    int stream = has(body, length, "\"stream\":true") || has(body, length, "\"stream\": true");
    if (is_message) return stream ? &message_stream : &message;
    return stream ? &chat_stream : &chat[choices(body, length)];
}

/* Bytes of the first request in the buffer, 0 if it is not all there yet. */
static size_t request_length(const Connection *one, size_t *head_length) {
    char *end = memmem(one->in.bytes, one->in.length, "\r\n\r\n", 4);
    if (!end) return 0;
    size_t head = end + 4 - one->in.bytes;
    *head_length = head;
    *end = 0;
    char *length = strcasestr(one->in.bytes, "\r\ncontent-length:");
    char *coding = strcasestr(one->in.bytes, "\r\ntransfer-encoding: chunked");
    size_t whole = head;
    if (length) whole += strtoul(length + 17, NULL, 10);
    *end = '\r';
    if (coding) {
        char *last = memmem(one->in.bytes + head, one->in.length - head, "0\r\n\r\n", 5);
        return last ? (size_t)(last + 5 - one->in.bytes) : 0;
    }
    return whole <= one->in.length ? whole : 0;
}

static int received(Connection *one) {
    for (;;) {
        if (one->room - one->in.length < 16384) {
            if (one->room > MOST_REQUEST) return 0;
            one->room = one->room ? 2 * one->room : 65536;
            one->in.bytes = grown(one->in.bytes, one->room);
        }
        size_t free_bytes = one->room - one->in.length - 1;
        ssize_t took = recv(one->file, one->in.bytes + one->in.length, free_bytes, 0);
        if (took == 0) return 0;
        if (took < 0) {
            if (errno != EAGAIN) return 0;
            break;
        }
        one->in.length += took;
        if ((size_t)took < free_bytes) break;
    }
    size_t head, length;
    while (one->in.length && (length = request_length(one, &head))) {
        const char *body = one->in.bytes + head;
        if (!answered(one, chosen(one->in.bytes, head, body, length - head))) return 0;
        memmove(one->in.bytes, one->in.bytes + length, one->in.length - length);
        one->in.length -= length;
    }
    return 1;
}

static int flushed(Connection *one) {
    ssize_t took = send(one->file, one->out.bytes, one->out.length, MSG_NOSIGNAL);
    if (took < 0) return errno == EAGAIN;
    memmove(one->out.bytes, one->out.bytes + took, one->out.length - took);
    one->out.length -= took;
    if (!one->out.length) watch(one, EPOLL_CTL_MOD);
    return 1;
}

static void accept_all(int listener) {
    int file, yes = 1;
    while ((file = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (file >= MOST_FILES) { close(file); continue; }
        setsockopt(file, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        Connection *one = calloc(1, sizeof *one);
        if (!one) die("calloc");
        one->file = file;
        connections[file] = one;
        watch(one, EPOLL_CTL_ADD);
    }
}

int main(int count, char **arguments) {
    if (count != 3) { fprintf(stderr, "usage: upstream FOLDER FAIL_EVERY\n"); return 2; }
    const char *folder = arguments[1];
    fail_every = strtoul(arguments[2], NULL, 10);
    for (int n = 1; n < MOST_CHOICES; n++) {
        char name[32];
        snprintf(name, sizeof name, "chat-%d.json", n);
        chat[n] = whole(folder, name, "200 OK");
    }
    message = whole(folder, "message.json", "200 OK");
    models = whole(folder, "models.json", "200 OK");
    failure = whole(folder, "failure.json", "500 Internal Server Error");
    missing = whole(folder, "missing.json", "404 Not Found");
    chat_stream = streamed(folder, "chat.sse");
    message_stream = streamed(folder, "message.sse");

    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) ||
        listen(listener, 4096) || getsockname(listener, (struct sockaddr *)&address, &size))
        die("listen");
    epoll_file = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    if (epoll_file < 0 || epoll_ctl(epoll_file, EPOLL_CTL_ADD, listener, &event)) die("epoll");
    printf("port %d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        struct epoll_event ready[256];
        int found = epoll_wait(epoll_file, ready, 256, -1);
        for (int index = 0; index < found; index++) {
            if (ready[index].data.fd == listener) { accept_all(listener); continue; }
            Connection *one = connections[ready[index].data.fd];
            int alive = one != NULL;
            if (alive && ready[index].events & EPOLLOUT) alive = flushed(one);
            if (alive && ready[index].events & ~EPOLLOUT) alive = received(one);
            if (one && !alive) forget(one);
        }
    }
}
