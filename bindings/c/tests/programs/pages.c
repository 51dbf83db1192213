/*
 * pages KERNEL CORE [LIMIT]: every page of the dump, one a line, with its first bytes as read
 * through the same handle from inside the walk.
 */
#include <kvm.h>

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

struct state {
	kvm_t *kd;
	long left;
};

static int
page(struct kvm_page *kp, void *arg)
{
	struct state *state = arg;
	kvaddr_t va = kp->kp_kmap_vaddr != 0 ? kp->kp_kmap_vaddr : kp->kp_dmap_vaddr;
	unsigned char first[8] = { 0 };
	ssize_t got = -1;

	if (kp->kp_version != LIBKVM_WALK_PAGES_VERSION)
		return (0);
	if (kp->kp_offset != -1 && va != 0)
		got = kvm_read2(state->kd, va, first, sizeof(first));
	printf("%#llx %#llx %#llx %d %lld %zu %lld %02x%02x%02x%02x\n",
	    (unsigned long long)kp->kp_paddr, (unsigned long long)kp->kp_kmap_vaddr,
	    (unsigned long long)kp->kp_dmap_vaddr, kp->kp_prot, (long long)kp->kp_offset,
	    kp->kp_len, (long long)got, first[0], first[1], first[2], first[3]);
	return (--state->left != 0);
}

int
main(int argc, char **argv)
{
	char errbuf[_POSIX2_LINE_MAX];
	struct state state;

	if (argc < 3)
		return (2);
	state.left = argc > 3 ? atol(argv[3]) : -1;
	state.kd = kvm_open2(argv[1], argv[2], O_RDONLY, errbuf, NULL);
	if (state.kd == NULL) {
		printf("error: %s\n", errbuf);
		return (1);
	}
	printf("walk %d\n", kvm_walk_pages(state.kd, page, &state));
	return (kvm_close(state.kd));
}
