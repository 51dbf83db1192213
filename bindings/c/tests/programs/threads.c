/*
 * threads KERNEL CORE SYMBOL: opens the dump in several threads at once, reads the symbol through
 * each thread's own handle again and again, and says what all of them read.
 */
#include <kvm.h>

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define THREADS	4
#define READS	200

static char **args;

static void *
reader(void *arg)
{
	char errbuf[_POSIX2_LINE_MAX];
	struct kvm_nlist nl[2];
	unsigned int *value = arg, again, i;
	kvm_t *kd;

	memset(nl, 0, sizeof(nl));
	nl[0].n_name = args[3];
	kd = kvm_openfiles(args[1], args[2], NULL, O_RDONLY, errbuf);
	if (kd == NULL || kvm_nlist2(kd, nl) != 0)
		return ((void *)"open");
	if (kvm_read2(kd, nl[0].n_value, value, sizeof(*value)) != sizeof(*value))
		return ((void *)"read");
	for (i = 0; i < READS; i++) {
		if (kvm_read2(kd, nl[0].n_value, &again, sizeof(again)) != sizeof(again) || again != *value)
			return ((void *)"read again");
		if (kvm_read2(kd, 0x10, &again, sizeof(again)) != -1 || kvm_geterr(kd)[0] == '\0')
			return ((void *)"error text");
	}
	return (kvm_close(kd) == 0 ? NULL : (void *)"close");
}

int
main(int argc, char **argv)
{
	pthread_t threads[THREADS];
	unsigned int values[THREADS];
	void *failed;
	int i, status = 0;

	if (argc < 4)
		return (2);
	args = argv;
	for (i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, reader, &values[i]) != 0)
			return (1);
	for (i = 0; i < THREADS; i++) {
		pthread_join(threads[i], &failed);
		if (failed != NULL) {
			fprintf(stderr, "thread %d: %s\n", i, (const char *)failed);
			status = 1;
		} else
			printf("%u\n", values[i]);
	}
	return (status);
}
