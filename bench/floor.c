/* The floor: what the same work of Redis costs when nothing is computed and the client is as cheap as can be.

       floor PORT STREAM OUTPUT LATEST LEASE SERIES COUNT

   One request a turn, as foretick sends it: MULTI, an XADD of each tick's "forecast" under the tick's id (the same ten
   fields, numbers of the same length), HSET of the last one of each series as JSON, XTRIM, XGROUP SETID, PEXPIRE of the
   lease, EXEC; then WATCH, GET and XREAD COUNT. Ticks have the fields series, value, ts in this order; the SERIES series take
   turns, so the last SERIES entries of a turn are of different ones. */

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CHUNK = 1 << 18, COUNT_MAX = 20000 };

typedef struct { char *at; int size; } Text;
typedef struct { Text id, series, value, ts; } Tick;

static int sock;
static char *reply, *request, *json;
static size_t read_at, read_end, reply_room, written;
static Tick ticks[COUNT_MAX];

static void die(const char *why) { perror(why); exit(1); }

static void more(void) {
    if (reply_room - read_end < CHUNK) {  /* texts of ticks point into it, so it never moves: it is large at once */
        fprintf(stderr, "a reply is too large\n");
        exit(1);
    }
    ssize_t got = recv(sock, reply + read_end, CHUNK, 0);
    if (got <= 0) exit(0);
    read_end += got;
}

static char *line(void) {  /* the next line of the reply, without its end */
    size_t from = read_at;
    char *end;
    while (!(end = memchr(reply + from, '\n', read_end - from))) { from = read_end; more(); }
    char *begin = reply + read_at;
    read_at = end + 1 - reply;
    return begin;
}

static Text bulk(void) {
    Text text = {0, atoi(line() + 1)};
    if (text.size < 0) return text;
    while (read_end - read_at < (size_t)text.size + 2) more();
    text.at = reply + read_at;
    read_at += text.size + 2;
    return text;
}

static void skip(void) {  /* one reply of any kind but an array within an array */
    char *head = line();
    if (*head == '-') { fprintf(stderr, "%.100s\n", head); exit(1); }
    if (*head == '$' && head[1] != '-') {
        int size = atoi(head + 1);
        while (read_end - read_at < (size_t)size + 2) more();
        read_at += size + 2;
    }
    if (*head == '*')
        for (int n = atoi(head + 1); n > 0; n--) skip();
}

static void raw(const char *text, size_t size) { memcpy(request + written, text, size); written += size; }
static void number(char kind, int n) {
    char digits[12], *p = digits + sizeof digits;
    *--p = '\n'; *--p = '\r';
    do *--p = '0' + n % 10; while (n /= 10);
    *--p = kind;
    raw(p, digits + sizeof digits - p);
}
static void word(Text text) { number('$', text.size); raw(text.at, text.size); raw("\r\n", 2); }
static Text text_of(const char *text) { return (Text){(char *)text, strlen(text)}; }
static void words(int n, ...) {
    __builtin_va_list list;
    __builtin_va_start(list, n);
    number('*', n);
    while (n--) word(text_of(__builtin_va_arg(list, const char *)));
    __builtin_va_end(list);
}
static void send_all(void) {
    for (size_t sent = 0; sent < written;) {
        ssize_t n = send(sock, request + sent, written - sent, 0);
        if (n < 0) die("send");
        sent += n;
    }
    written = 0;
}

#define LITERAL(text) raw(text, sizeof text - 1)
#define NUMBERS 6
static const char *names[NUMBERS] = {"yhat", "yhat_lower_80", "yhat_upper_80", "yhat_lower_95", "yhat_upper_95", "anomaly_score"};
static const char *numbers[NUMBERS] = {"100.12345678901234", "98.123456789012345", "102.12345678901234", "97.123456789012345", "103.12345678901234", "0.1234567890123456"};

static void publish(const Tick *tick, const char *output, int told) {
    number('*', 11 + 2 * told);
    word(text_of("XADD")); word(text_of(output)); word(tick->id);
    word(text_of("series")); word(tick->series); word(text_of("ts")); word(tick->ts);
    word(text_of("y")); word(tick->value);
    for (int i = 0; i < told; i++) { word(text_of(names[i])); word(text_of(numbers[i])); }
    word(text_of("stage")); word(text_of("warm"));
}

static void keep_latest(const Tick *tick, int told) {
    int size = sprintf(json, "{\"series\":\"%.*s\",\"ts\":%.*s,\"y\":%.*s", tick->series.size, tick->series.at,
                       tick->ts.size, tick->ts.at, tick->value.size, tick->value.at);
    for (int i = 0; i < told; i++) {
        size += sprintf(json + size, ",\"%s\":", names[i]);
        size = stpcpy(json + size, numbers[i]) - json;
    }
    size += sprintf(json + size, ",\"stage\":\"warm\"}");
    word(tick->series); word((Text){json, size});
}

int main(int n_words, char **given) {
    if (n_words != 8) die("PORT STREAM OUTPUT LATEST LEASE SERIES COUNT");
    const char *stream = given[2], *output = given[3], *latest = given[4], *lease = given[5], *count = given[7];
    int n_series = atoi(given[6]), n = 0, one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(given[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    sock = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(sock, (struct sockaddr *)&address, sizeof address)) die("connect");
    reply_room = (size_t)64 << 20;
    reply = malloc(reply_room); request = malloc((size_t)COUNT_MAX * 1500); json = malloc(4096);
    words(6, "XGROUP", "CREATE", stream, "floor", "0", "MKSTREAM");
    words(5, "SET", lease, "owner-1234-abcdef 1763712000000", "PX", "3600000");
    send_all(); skip(); skip();
    char position[64] = "0-0";
    for (long done = 0;;) {
        if (n) {
            int kept = n < n_series ? n : n_series;
            char entries[24];
            int told = done < 31L * n_series ? 1 : NUMBERS;  /* no intervals for the first ticks of a series */
            done += n;
            sprintf(entries, "%ld", done);
            words(1, "MULTI");
            for (int i = 0; i < n; i++) publish(&ticks[i], output, told);
            number('*', 2 + 2 * kept); word(text_of("HSET")); word(text_of(latest));
            for (int i = n - kept; i < n; i++) keep_latest(&ticks[i], told);
            words(5, "XTRIM", output, "MAXLEN", "~", "1000000");
            words(7, "XGROUP", "SETID", stream, "floor", position, "ENTRIESREAD", entries);
            words(3, "PEXPIRE", lease, "3600000");
            words(1, "EXEC");
        }
        words(2, "WATCH", lease);
        words(2, "GET", lease);
        words(8, "XREAD", "COUNT", count, "BLOCK", "1000", "STREAMS", stream, position);
        read_at = read_end = 0;  /* every reply of the last turn was read, and its ticks are written */
        send_all();
        if (n) for (int i = 0; i < n + 6; i++) skip();  /* MULTI, n XADD, HSET, XTRIM, XGROUP, PEXPIRE queued; EXEC */
        skip(); skip();
        n = 0;
        if (line()[1] == '-') continue;
        line(); bulk();
        n = atoi(line() + 1);
        for (int i = 0; i < n; i++) {
            line();
            ticks[i].id = bulk();
            line();
            bulk(); ticks[i].series = bulk(); bulk(); ticks[i].value = bulk(); bulk(); ticks[i].ts = bulk();
        }
        sprintf(position, "%.*s", ticks[n - 1].id.size, ticks[n - 1].id.at);
    }
}
