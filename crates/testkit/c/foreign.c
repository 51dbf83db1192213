/* What a kernel of another architecture needs besides the functions that are interrupted. */

char stacks[3][16384] __attribute__((aligned(4096)));
int hz = 100;
