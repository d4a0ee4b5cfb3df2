/* What an empty box is started with: says one byte and ends. It does as little as a static C program can, so the time to that
 * byte is the engine's own. As the init of a machine it powers the machine off. */

#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <fcntl.h>
#include <unistd.h>

/* What tarebench's frames begin with, too: no kernel writes it on a console. */
static const char SIGN[] = "\x1e\n";

int main(int count, char **words)
{
    int machine = count > 0 && !strcmp(words[0], "/init");
    /* A root without /dev/console leaves an init without any output. */
    if (machine && fcntl(1, F_GETFD) < 0) {
        mkdir("/dev", 0755);
        mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
        dup2(open("/dev/console", O_RDWR), 1);
    }
    int said = write(1, SIGN, sizeof SIGN - 1) == sizeof SIGN - 1;
    if (machine)
        reboot(RB_POWER_OFF);
    return !said;
}
