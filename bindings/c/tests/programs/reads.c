/*
 * reads KERNEL CORE [NAME | ADDRESS LENGTH]...: the symbols and bytes that are asked for, one a
 * line, by the two ways that kvm(3) has for each.
 */
#include <kvm.h>

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void
symbol(kvm_t *kd, const char *name)
{
	struct nlist nl[2];
	struct kvm_nlist nl2[2];
	int missing, missing2;

	memset(nl, 0, sizeof(nl));
	memset(nl2, 0, sizeof(nl2));
	nl[0].n_name = name;
	nl2[0].n_name = name;
	missing = kvm_nlist(kd, nl);
	missing2 = kvm_nlist2(kd, nl2);
	printf("%s %d %#lx %#x\n", name, missing, nl[0].n_value, nl[0].n_type);
	if (missing != missing2 || nl[0].n_value != nl2[0].n_value || nl[0].n_type != nl2[0].n_type) {
		fprintf(stderr, "%s: kvm_nlist and kvm_nlist2 differ\n", name);
		exit(1);
	}
}

static void
bytes(kvm_t *kd, kvaddr_t address, size_t len)
{
	unsigned char *first = malloc(len), *second = malloc(len);
	ssize_t got, i;

	memset(first, 0x5a, len);
	memset(second, 0x5a, len);
	got = kvm_read(kd, (unsigned long)address, first, len);
	if (got != kvm_read2(kd, address, second, len) || (got > 0 && memcmp(first, second, got) != 0)) {
		fprintf(stderr, "kvm_read and kvm_read2 differ\n");
		exit(1);
	}
	for (i = got > 0 ? got : 0; i < (ssize_t)len; i++)
		if (first[i] != 0x5a || second[i] != 0x5a) {
			fprintf(stderr, "bytes after those that were read are not as they were\n");
			exit(1);
		}
	printf("%#llx %lld ", (unsigned long long)address, (long long)got);
	for (i = 0; i < got; i++)
		printf("%02x", first[i]);
	printf("%s%s\n", got < (ssize_t)len ? " " : "", got < (ssize_t)len ? kvm_geterr(kd) : "");
	free(first);
	free(second);
}

int
main(int argc, char **argv)
{
	char errbuf[_POSIX2_LINE_MAX];
	kvm_t *kd;
	int i;

	if (argc < 3)
		return (2);
	kd = kvm_openfiles(argv[1], argv[2], NULL, O_RDONLY, errbuf);
	if (kd == NULL) {
		printf("error: %s\n", errbuf);
		return (1);
	}
	printf("native %d displacement %lld\n", kvm_native(kd), (long long)kvm_kerndisp(kd));
	for (i = 3; i < argc; i++) {
		if (strncmp(argv[i], "0x", 2) == 0 && i + 1 < argc) {
			bytes(kd, strtoull(argv[i], NULL, 16), strtoull(argv[i + 1], NULL, 10));
			i++;
		} else
			symbol(kd, argv[i]);
	}
	return (kvm_close(kd) == 0 ? 0 : 1);
}
