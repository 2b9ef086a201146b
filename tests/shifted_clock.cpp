// Preloaded into a process: the time of day is shifted by as many seconds as the file that CLOCK_SHIFT names holds.
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

static long shift() {
    const char* place = std::getenv("CLOCK_SHIFT");
    std::FILE* file = place ? std::fopen(place, "r") : nullptr;
    long seconds = 0;
    if (file) {
        if (std::fscanf(file, "%ld", &seconds) != 1) seconds = 0;
        std::fclose(file);
    }
    return seconds;
}

extern "C" int clock_gettime(clockid_t clock, timespec* now) noexcept {
    const long answer = syscall(SYS_clock_gettime, clock, now);
    if (answer == 0 && clock == CLOCK_REALTIME) now->tv_sec += shift();
    return static_cast<int>(answer);
}

extern "C" int gettimeofday(timeval* now, void*) noexcept {
    timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

extern "C" time_t time(time_t* now) noexcept {
    timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (now) *now = precise.tv_sec;
    return precise.tv_sec;
}
