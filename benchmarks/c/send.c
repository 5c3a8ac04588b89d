/* Traffic for the receivers, and the limit that other senders are held against: sendmmsg(2).
 *
 * Each line on standard input is a port to send one run of datagrams to; a line with figures on
 * standard output ends the run. Every datagram begins with the time it was sent at
 * (CLOCK_MONOTONIC, nanoseconds), if it is large enough.
 */

#include "common.h"

#define MANY 64

static const char *first_group;
static int groups = 1, size = 64, burst = MANY, segments = 1;
static double rate;         /* datagrams per second; 0: as fast as possible */
static double duration = 1; /* of a run */
static long long limit;     /* datagrams of a run; 0: no limit */

static struct sockaddr_in *names;
static struct mmsghdr headers[MANY];
static struct iovec vectors[MANY];

static void prepare(void) {
    names = allocate(groups, sizeof *names);
    for (int i = 0; i < groups; i++) {
        names[i].sin_family = AF_INET;
        names[i].sin_addr = numbered_group(first_group, i);
    }
    for (int i = 0; i < MANY; i++) {
        vectors[i].iov_base = allocate(segments, size);
        vectors[i].iov_len = (size_t)segments * size;
        headers[i].msg_hdr.msg_iov = &vectors[i];
        headers[i].msg_hdr.msg_iovlen = 1;
        headers[i].msg_hdr.msg_namelen = sizeof *names;
    }
}

static int open_socket(int interface) {
    int sock = socket(AF_INET, SOCK_DGRAM, 0);
    struct ip_mreqn by = {.imr_ifindex = interface};
    check(sock, "socket");
    check(setsockopt(sock, IPPROTO_IP, IP_MULTICAST_IF, &by, sizeof by), "IP_MULTICAST_IF");
    if (segments > 1)
        check(setsockopt(sock, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof size), "UDP_SEGMENT");
    return sock;
}

/* Sends that many messages (not more than MANY), to the groups in turn. */
static void send_messages(int sock, int count) {
    static int turn;
    long long stamp = now();
    for (int i = 0; i < count; i++) {
        headers[i].msg_hdr.msg_name = &names[turn];
        turn = turn + 1 == groups ? 0 : turn + 1;
        if (size >= (int)sizeof stamp)
            for (int k = 0; k < segments; k++)
                memcpy((char *)vectors[i].iov_base + k * size, &stamp, sizeof stamp);
    }
    for (int done = 0; done < count;) {
        int sent = sendmmsg(sock, headers + done, count - done, 0);
        if (sent < 0 && errno != EINTR) fail("sendmmsg");
        if (sent > 0) done += sent;
    }
}

/* Sleeps until shortly before and spins the rest, for a sleeper is woken late. */
static void wait_until(long long time) {
    long long early = time - 80000;
    if (early > now()) {
        struct timespec until = {early / SECOND, early % SECOND};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    }
    while (now() < time) {
    }
}

static void run(int sock) {
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    long long began = now(), end = began + duration * SECOND, next = began, sent = 0;
    while (now() < end && (!limit || sent < limit)) {
        if (rate) wait_until(next);
        for (int left = burst; left > 0; left -= MANY)
            send_messages(sock, left < MANY ? left : MANY);
        sent += (long long)burst * segments;
        next += rate ? burst * segments / rate * SECOND : 0;
    }
    double took = (now() - began) / 1e9;
    getrusage(RUSAGE_SELF, &after);
    printf("{\"datagrams\": %lld, \"seconds\": %.6f, \"user\": %.6f, \"system\": %.6f}\n", sent,
           took, seconds(after.ru_utime) - seconds(before.ru_utime),
           seconds(after.ru_stime) - seconds(before.ru_stime));
    fflush(stdout);
}

enum { GROUP = 1, GROUPS, INTERFACE, LIMIT, SIZE, RATE, BURST, SEGMENTS, SECONDS, COUNT };

int main(int argc, char **argv) {
    static const struct option options[] = {
        {"group", 1, 0, GROUP},       {"groups", 1, 0, GROUPS},     {"interface", 1, 0, INTERFACE},
        {"limit", 1, 0, LIMIT},       {"size", 1, 0, SIZE},         {"rate", 1, 0, RATE},
        {"burst", 1, 0, BURST},       {"segments", 1, 0, SEGMENTS}, {"seconds", 1, 0, SECONDS},
        {"count", 1, 0, COUNT},       {0, 0, 0, 0}};
    int interface = 0, choice;
    while ((choice = getopt_long(argc, argv, "", options, NULL)) != -1) switch (choice) {
            case GROUP: first_group = optarg; break;
            case GROUPS: groups = atoi(optarg); break;
            case INTERFACE: interface = if_nametoindex(optarg); break;
            case LIMIT: alarm(atoi(optarg)); break;
            case SIZE: size = atoi(optarg); break;
            case RATE: rate = atof(optarg); break;
            case BURST: burst = atoi(optarg); break;
            case SEGMENTS: segments = atoi(optarg); break;
            case SECONDS: duration = atof(optarg); break;
            case COUNT: limit = atoll(optarg); break;
            default: return 2;
        }
    if (!first_group || !interface) {
        fprintf(stderr, "--group and --interface are needed\n");
        return 2;
    }
    prctl(PR_SET_TIMERSLACK, 1);
    prepare();
    int sock = open_socket(interface);
    for (char line[64]; fgets(line, sizeof line, stdin);) {
        for (int i = 0; i < groups; i++) names[i].sin_port = htons(atoi(line));
        run(sock);
    }
    return 0;
}
