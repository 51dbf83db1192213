/*
 * procs KERNEL CORE OP ARG: the processes of the dump, one a line; errors go to stderr by
 * kvm_open(3)'s own printing.
 */
#include <kvm.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

int
main(int argc, char **argv)
{
	struct nlist nl[] = { { "no_such_symbol", 1, 1, 1, 1 }, { NULL, 0, 0, 0, 0 } };
	struct kinfo_proc *kp;
	kvm_t *kd;
	int count, i;

	if (argc < 5)
		return (2);
	kd = kvm_open(argv[1], argv[2], NULL, O_RDONLY, "procs");
	if (kd == NULL)
		return (1);
	/* A symbol that is missing is none of the errors that are printed. */
	if (kvm_nlist(kd, nl) != 1 || nl[0].n_type != N_UNDF || nl[0].n_value != 0)
		return (1);
	kp = kvm_getprocs(kd, atoi(argv[3]), atoi(argv[4]), &count);
	printf("%d\n", count);
	if (kp == NULL)
		printf("error: %s\n", kvm_geterr(kd));
	for (i = 0; kp != NULL && i < count; i++)
		printf("%d %d %s %s%s %p %p %d %d %d %u %u %d %d %d %d\n", kp[i].ki_pid, kp[i].ki_tid, kp[i].ki_comm,
		    kp[i].ki_tdname, kp[i].ki_moretdname, (void *)kp[i].ki_paddr,
		    (void *)kp[i].ki_tdaddr, kp[i].ki_stat, kp[i].ki_numthreads,
		    kp[i].ki_structsize == (int)sizeof(*kp), kp[i].ki_rgid, kp[i].ki_groups[0],
		    kp[i].ki_sid, kp[i].ki_tdev == NODEV, kp[i].ki_oncpu, kp[i].ki_lastcpu);
	return (kvm_close(kd));
}
